"""The weightings of pseudo-labels against loops over images in NumPy, several steps long."""

import numpy as np
import pytest
import torch
from closed_forms import f32
from small_problems import CLASSES, IMAGES, predictions

from meanteacher.methods.common.weighting import (
    CurriculumThreshold,
    FixedThreshold,
    SelfAdaptiveThreshold,
    TruncatedGaussian,
)

WEIGHTINGS = {
    "curriculum": lambda: CurriculumThreshold(threshold=0.7),
    "fixed": lambda: FixedThreshold(threshold=0.7),
    "self_adaptive": lambda: SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0),
    "gaussian": lambda: TruncatedGaussian(decay=0.9, n_sigma=2.0, uniform_alignment=True, alignment_start="uniform"),
}


def bound(weighting):
    return weighting.bind(num_classes=CLASSES, num_images=IMAGES)


def test_a_fixed_threshold_lets_equality_pass():
    p = f32([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.4, 0.3, 0.3]])
    assert bound(FixedThreshold(threshold=0.5))(p, torch.arange(3)).tolist() == [1, 1, 0]


def test_curriculum_thresholds_equal_a_loop_over_images():
    rng = np.random.default_rng(3)
    weighting, table, seen = bound(CurriculumThreshold(threshold=0.7)), [-1] * IMAGES, set()
    for _ in range(12):
        index, p = rng.permutation(IMAGES)[:10], predictions(rng, 10)
        counts = [table.count(c) for c in range(CLASSES)]
        most = max(*counts, table.count(-1))
        expected = []
        for row in p:
            beta = counts[row.argmax()] / most
            expected.append(float(row.max() >= 0.7 * beta / (2 - beta)))
        for i, row in zip(index, p, strict=True):
            if row.max() >= 0.7:
                table[i] = int(row.argmax())
        assert weighting(f32(p), torch.tensor(index)).tolist() == expected
        assert weighting.learned.tolist() == table
        seen |= set(expected)
    assert seen == {0.0, 1.0} and -1 in table


def test_before_anything_is_learned_everything_passes():
    p = f32([[0.34, 0.33, 0.33]])
    assert bound(CurriculumThreshold(threshold=0.95))(p, torch.tensor([3])).tolist() == [1]


def test_the_table_is_by_image_not_by_place_in_the_batch():
    rng = np.random.default_rng(4)
    index, p = torch.tensor(rng.permutation(IMAGES)[:20]), f32(predictions(rng, 20))
    order = torch.randperm(20)
    whole, shuffled, halves = (bound(CurriculumThreshold(threshold=0.7)) for _ in range(3))
    weight = whole(p, index)
    assert torch.equal(weight[order], shuffled(p[order], index[order]))
    for half in order.split(10):
        halves(p[half], index[half])
    assert torch.equal(whole.learned, shuffled.learned) and torch.equal(whole.learned, halves.learned)
    written = p.amax(1) >= 0.7
    assert torch.equal(whole.learned[index], torch.where(written, p.argmax(1), -1))
    assert (whole.learned >= 0).sum() == written.sum() > 5


def test_an_image_twice_in_a_batch_is_written_alike_in_any_order():
    p = f32([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.4, 0.3, 0.3]])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        weighting = bound(CurriculumThreshold(threshold=0.7))
        weighting(p[order], torch.tensor([5, 5, 5]))
        assert weighting.learned[5] == 1 and (weighting.learned >= 0).sum() == 1
        weighting(p[2:], torch.tensor([5]))
        assert weighting.learned[5] == 1, "an unsure prediction erases nothing"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 0.6)])
def test_self_adaptive_thresholds_equal_a_loop(low, high):
    rng = np.random.default_rng(5)
    weighting = bound(SelfAdaptiveThreshold(decay=0.9, clamp_min=low, clamp_max=high))
    level, classes, histogram = 1 / CLASSES, np.full(CLASSES, 1 / CLASSES), np.full(CLASSES, 1 / CLASSES)
    kept = []
    for _ in range(8):
        p = predictions(rng, 10)
        level = 0.9 * level + 0.1 * p.max(1).mean()
        classes = 0.9 * classes + 0.1 * p.mean(0)
        histogram = 0.9 * histogram + 0.1 * np.array([(p.argmax(1) == c).mean() for c in range(CLASSES)])
        thresholds = min(max(level, low), high) * classes / classes.max()
        expected = [float(row.max() >= thresholds[row.argmax()]) for row in p]
        assert weighting(f32(p), torch.arange(10)).tolist() == expected
        np.testing.assert_allclose(weighting.level.item(), level, rtol=1e-5)
        np.testing.assert_allclose(weighting.classes.numpy(), classes, rtol=1e-5)
        np.testing.assert_allclose(weighting.histogram.numpy(), histogram, rtol=1e-5)
        kept += expected
    assert set(kept) == {0.0, 1.0}


@pytest.mark.parametrize("aligned", [True, False])
def test_gaussian_weights_equal_a_loop(aligned):
    rng = np.random.default_rng(6)
    weighting = bound(TruncatedGaussian(decay=0.9, n_sigma=2.0, uniform_alignment=aligned, alignment_start="uniform"))
    mean, variance, model = 1 / CLASSES, 1.0, np.full(CLASSES, 1 / CLASSES)
    for _ in range(8):
        p = predictions(rng, 10)
        if aligned:
            model = 0.9 * model + 0.1 * p.mean(0)
            p_hat = p / CLASSES / model
            p_hat /= p_hat.sum(1, keepdims=True)
        else:
            p_hat = p
        m = p_hat.max(1)
        mean, variance = 0.9 * mean + 0.1 * m.mean(), 0.9 * variance + 0.1 * m.var(ddof=1)
        expected = [np.exp(-(min(v - mean, 0) ** 2) * 4 / (2 * variance)) for v in m]
        np.testing.assert_allclose(weighting(f32(p), torch.arange(10)).numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(weighting.mean.item(), mean, rtol=1e-5)
    np.testing.assert_allclose(weighting.variance.item(), variance, rtol=1e-4)
    assert 0 < min(expected) < 0.99 and max(expected) == 1


def test_a_batch_of_one_image_has_a_finite_weight():
    weighting = bound(TruncatedGaussian(decay=0.0, n_sigma=2.0, uniform_alignment=False, alignment_start="uniform"))
    assert weighting(f32([[0.5, 0.3, 0.2]]), torch.tensor([0])).tolist() == [1]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_of_the_image_whatever_its_place(name):
    rng = np.random.default_rng(7)
    index, p = torch.tensor(rng.permutation(IMAGES)[:20]), f32(predictions(rng, 20))
    in_order, permuted = bound(WEIGHTINGS[name]()), bound(WEIGHTINGS[name]())
    order = torch.randperm(20)
    for _ in range(2):
        weight = in_order(p, index)
        torch.testing.assert_close(weight[order], permuted(p[order], index[order]))
    assert weight.dtype == torch.float32 and weight.min() >= 0 and weight.max() <= 1

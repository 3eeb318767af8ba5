"""FreeMatch's fairness term and its loss against NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, fairness_by_hand, slope, softmax
from small_problems import CLASSES, FACTS, Problem

from meanteacher.config.errors import UserError
from meanteacher.methods.common.weighting import FixedThreshold, SelfAdaptiveThreshold
from meanteacher.methods.freematch import FreeMatch, fairness


@pytest.mark.parametrize("empty", [False, True])
def test_fairness_equals_its_closed_form(empty):
    rng = np.random.default_rng(11)
    logits, weight = rng.normal(size=(12, CLASSES)) - ([0, 0, 9] if empty else [0, 0, 0]), rng.integers(0, 2, 12)
    classes, histogram = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.3, 0.1])
    expected = fairness_by_hand(softmax(logits), weight, classes, histogram)
    term = fairness(f32(logits), f32(weight), f32(classes), f32(histogram))
    assert term.item() == pytest.approx(expected, rel=1e-4)


def test_fairness_is_0_with_no_gradient_where_no_image_passes():
    logits = torch.randn(6, CLASSES, requires_grad=True)
    uniform = torch.full((CLASSES,), 1 / CLASSES)
    term = fairness(logits, torch.zeros(6), uniform, uniform)
    term.backward()
    assert term.item() == 0 and not logits.grad.any()


def test_minimizing_the_fairness_term_makes_the_mean_prediction_fairer():
    logits = np.array([[2.0, 0, 0]] * 6 + [[0, 1.5, 0], [0, 0, 1.0]])  # argmax: 6 times class 0, once 1, once 2
    uniform = np.full(CLASSES, 1 / CLASSES)
    weight = np.ones(len(logits))
    numeric = slope(lambda z: fairness_by_hand(softmax(z), weight, uniform, uniform), logits, h=1e-5)
    z = f32(logits).requires_grad_()
    fairness(z, f32(weight), f32(uniform), f32(uniform)).backward()
    np.testing.assert_allclose(z.grad.numpy(), numeric, rtol=1e-3, atol=1e-6)

    def entropy(p):
        return -(p * np.log(p)).sum()

    before, after, opposite = (softmax(logits - rate * numeric).mean(0) for rate in (0, 0.5, -0.5))
    assert after[0] < before[0] and entropy(after) > entropy(before) > entropy(opposite)


def test_freematch_loss_equals_its_closed_form():
    problem = Problem()
    weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
    method = FreeMatch(
        student=problem.student(), weighting=weighting, unlabeled_weight=2.0, fairness_weight=0.5, **FACTS
    )
    weighting.level.fill_(0.95)
    q, strong = softmax(problem.z(problem.u)), problem.z(problem.u2)
    level = 0.9 * 0.95 + 0.1 * q.max(1).mean()
    classes = 0.9 / CLASSES + 0.1 * q.mean(0)
    histogram = 0.9 / CLASSES + 0.1 * np.bincount(q.argmax(1), minlength=CLASSES) / 12
    mask = (q.max(1) >= level * (classes / classes.max())[q.argmax(1)]).astype(float)
    output = problem.run(method)
    assert 0 < mask.sum() < 12
    expected = ce(problem.z(problem.x), problem.target).mean() + 2 * (mask * ce(strong, q.argmax(1))).mean()
    expected += 0.5 * fairness_by_hand(softmax(strong), mask, classes, histogram)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert problem.judge_has_no_gradient()


def test_freematchs_strong_views_learn_from_the_fairness_term():
    problem, gradients = Problem(), []
    for factor in (0.0, 0.5):
        weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
        method = FreeMatch(
            student=problem.student(), weighting=weighting, unlabeled_weight=2.0, fairness_weight=factor, **FACTS
        )
        assert problem.run(method).metrics["kept"] == 1
        gradients.append(problem.unlabeled[1].grad)
    strong = f32(problem.u2).requires_grad_()
    logits = strong @ f32(problem.weights).T
    fairness(logits, torch.ones(12), weighting.classes, weighting.histogram).backward()
    torch.testing.assert_close(gradients[1] - gradients[0], 0.5 * strong.grad, rtol=1e-3, atol=1e-5)
    assert strong.grad.abs().max() > 1e-3


def test_freematch_needs_the_self_adaptive_threshold():
    with pytest.raises(UserError, match="SelfAdaptiveThreshold"):
        FreeMatch(
            student=Problem().student(),
            weighting=FixedThreshold(threshold=0.9),
            unlabeled_weight=1.0,
            fairness_weight=1.0,
            **FACTS,
        )

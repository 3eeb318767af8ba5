"""Temporal Ensembling: its loss, its target after any number of visits, and its memory against NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, slope, softmax
from small_problems import RAMP, STEP, TARGET, linear, ramp, step_images

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.temporal_ensembling import TemporalEnsembling, mean_over_equal

rng = np.random.default_rng(0)


def ensembling(weights, on_labeled, decay=0.6):
    return TemporalEnsembling(
        student=linear(weights),
        num_images=30,
        num_classes=3,
        ensemble_decay=decay,
        consistency_weight=7.0,
        consistency_ramp=ramp(),
        consistency_on_labeled=on_labeled,
    )


def test_temporal_ensembling_corrects_its_bias_as_the_paper_with_one_visit_an_epoch():
    method, z = ensembling(rng.normal(size=(3, 5)), False), np.zeros((6, 3))
    for epoch in range(1, 6):
        p, order = softmax(rng.normal(size=(6, 3))), rng.permutation(6)
        for batch in (order[:4], order[4:]):
            target, visited = method.visit(torch.tensor(batch) + 7, f32(p[batch]))
            if epoch == 1:
                assert not visited.any() and not target.any()
            else:
                assert target.numpy() == pytest.approx(z[batch] / (1 - 0.6 ** (epoch - 1)), rel=1e-5)
        z = 0.6 * z + 0.4 * p
    assert method.ensemble[7:13].numpy() == pytest.approx(z, rel=1e-5)
    assert not method.ensemble[:7].any() and not method.ensemble[13:].any()


@pytest.mark.parametrize("on_labeled", [True, False])
def test_temporal_ensembling_is_exact_for_irregular_visits_and_images_that_recur_in_a_step(on_labeled):
    method, visits = ensembling(rng.normal(size=(3, 5)), on_labeled), {i: [] for i in range(30)}
    images = rng.normal(size=(30, 5))
    for _ in range(8):
        weights = rng.normal(size=(3, 5))
        method.student.weight.data = f32(weights)
        chosen = [rng.choice(6, 4), rng.choice(30, 9)]
        assert len(np.unique(np.concatenate(chosen))) < 13
        views = [images[index] + 0.1 * rng.normal(size=(len(index), 5)) for index in chosen]
        output = method.training_step(
            Labeled(torch.tensor(chosen[0]), (f32(views[0]),), torch.tensor(TARGET)),
            Unlabeled(torch.tensor(chosen[1]), (f32(views[1]),)),
            STEP,
        )
        index = np.concatenate(chosen) if on_labeled else chosen[1]
        p = softmax((np.concatenate(views) if on_labeled else views[1]) @ weights.T)
        total = 0.0
        for i, row in zip(index, p, strict=True):
            if k := len(visits[i]):
                share = 0.4 * 0.6 ** np.arange(k)[::-1] / (1 - 0.6**k)
                total += ((row - share @ np.array(visits[i])) ** 2).mean() / len(index)
        assert output.loss.item() == pytest.approx(ce(views[0] @ weights.T, TARGET).mean() + 7 * RAMP * total, rel=1e-5)
        assert output.metrics["visited"].item() == pytest.approx(np.mean([bool(visits[i]) for i in index]))
        for i in np.unique(index):
            visits[i].append(p[index == i].mean(0))
    assert method.ensemble_weight.numpy() == pytest.approx([1 - 0.6 ** len(visits[i]) for i in range(30)], rel=1e-5)


def test_temporal_ensemblings_target_and_memory_carry_no_gradient():
    weights, x, u = (rng.normal(size=shape) for shape in ((3, 5), (4, 5), (6, 5)))
    method = ensembling(weights, False)
    method.ensemble.fill_(0.2)
    method.ensemble_weight.fill_(0.4)
    method.training_step(*step_images([x], [u]), STEP).loss.backward()
    expected = slope(lambda w: ce(x @ w.T, TARGET).mean() + 7 * RAMP * ((softmax(u @ w.T) - 0.5) ** 2).mean(), weights)
    assert method.student.weight.grad.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert not method.ensemble.requires_grad and method.ensemble.grad_fn is None


def test_an_image_that_recurs_has_one_mean_to_the_bit_and_in_float32():
    index = torch.from_numpy(rng.integers(0, 52, 257))
    values = torch.from_numpy(rng.random((257, 10), dtype=np.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        means = mean_over_equal(index, values)
    for i in index.unique():
        rows = means[index == i]
        assert (rows == rows[0]).all()
        assert rows[0].numpy() == pytest.approx(values[index == i].double().mean(0).numpy(), rel=1e-6)

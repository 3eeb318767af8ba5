"""AdaMatch: its loss, its random interpolation of logits and its ramp against NumPy."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, softmax
from conftest import settings
from small_problems import CLASSES, Problem
from torch import nn

from meanteacher.methods import adamatch as adamatch_module
from meanteacher.methods.adamatch import AdaMatch
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.optim.schedules import Constant
from meanteacher.runs.build import build


def adamatch(student, **changes):
    keys = {
        "threshold": 0.9,
        "unlabeled_weight": 2.0,
        "unlabeled_ramp": Constant(steps=100, warmup=0.5, warmup_shape="cosine"),
    } | changes
    return AdaMatch(
        student=student, num_classes=CLASSES, alignment=DistributionAlignment(decay=0.5, start="uniform"), **keys
    )


class Norm(nn.Module):
    """Batch normalization, whose statistics differ between AdaMatch's two passes, followed by a linear layer."""

    def __init__(self, linear):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(5, affine=False), linear

    def forward(self, points):
        return self.linear(self.norm(points))


def test_adamatch_loss_equals_its_closed_form(monkeypatch):
    problem = Problem()
    problem.x += 0.5
    draws = np.random.default_rng(12).uniform(size=(8, CLASSES))
    monkeypatch.setattr(adamatch_module, "draw_fractions", lambda logits: f32(draws))
    student = Norm(problem.student())
    output = problem.run(adamatch(student))

    def logits(points):
        return (points - points.mean(0)) / np.sqrt(points.var(0) + 1e-5) @ problem.weights.T

    everything = np.concatenate([problem.x, problem.x2, problem.u, problem.u2])
    joint = logits(everything)
    together, weak, strong = joint[:8], joint[8:20], joint[20:]
    alone = logits(np.concatenate([problem.x, problem.x2]))
    z = (1 - draws) * together + draws * alone
    p_x, p_u = softmax(z[:4]), softmax(weak)
    q = p_u * (0.5 / CLASSES + 0.5 * p_x.mean(0)) / (0.5 / CLASSES + 0.5 * p_u.mean(0))
    q /= q.sum(1, keepdims=True)
    assert (q.argmax(1) != p_u.argmax(1)).any() or (q.max(1) - p_u.max(1)).std() > 1e-3
    threshold = 0.9 * p_x.max(1).mean()
    mask = q.max(1) >= threshold
    assert 0 < mask.sum() < 12
    supervised = (ce(z[:4], problem.target).mean() + ce(z[4:], problem.target).mean()) / 2
    ramp = 0.5 - np.cos(min(np.pi, 2 * np.pi * 30 / 100)) / 2
    expected = supervised + 2 * ramp * (mask * ce(strong, q.argmax(1))).mean()
    assert output.metrics["threshold"].item() == pytest.approx(threshold, rel=1e-4)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(student.norm.running_mean.numpy(), 0.1 * everything.mean(0), rtol=1e-4, atol=1e-6)
    assert student.norm.num_batches_tracked == 1, "the labeled images' own pass leaves no statistics"


def test_adamatch_pseudo_labels_carry_no_gradient():
    problem = Problem()
    problem.run(adamatch(problem.student()))
    assert problem.judge_has_no_gradient() and problem.unlabeled[1].grad.any()


def test_adamatch_interpolates_each_logit_anew():
    problem = Problem()
    method = adamatch(Norm(problem.student()))
    losses = [problem.run(copy.deepcopy(method)).metrics["supervised"].item() for _ in range(2)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("step", "factor"), [(0, 0), (10, (1 - np.cos(0.2 * np.pi)) / 2), (25, 0.5), (50, 1), (80, 1)])
def test_adamatchs_weight_rises_as_a_cosine_over_half_of_the_run(step, factor):
    node = settings("method=adamatch", "steps=100")["method"]["unlabeled_ramp"]
    ramp = build(node)
    assert ramp(torch.tensor(float(step))).item() == pytest.approx(factor, abs=1e-6)

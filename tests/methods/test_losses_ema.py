"""Losses and EMA against closed forms computed in float64 with NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import f32, softmax
from torch import nn

from meanteacher.methods.common.ema import EMA, Teacher
from meanteacher.methods.common.losses import cross_entropy, softmax_kl, softmax_mse

rng = np.random.default_rng(0)
A, B = rng.normal(size=(2, 6, 4))


def test_losses_equal_their_closed_forms():
    target = np.array([0, 1, 2, 3, 0, 1])
    p, q = softmax(A), softmax(B)
    assert cross_entropy(f32(A), torch.tensor(target)).numpy() == pytest.approx(
        -np.log(p[np.arange(6), target]), rel=1e-5
    )
    assert softmax_mse(f32(A), f32(B)).numpy() == pytest.approx(((p - q) ** 2).mean(1), rel=1e-4)
    assert softmax_kl(f32(A), f32(B)).numpy() == pytest.approx((q * np.log(q / p)).sum(1), rel=1e-4)


def test_consistency_targets_carry_no_gradient():
    for loss in (softmax_mse, softmax_kl):
        a, b = f32(A).requires_grad_(), f32(B).requires_grad_()
        loss(a, b).sum().backward()
        assert b.grad is None and a.grad.abs().sum() > 0


def test_losses_are_float32_whatever_the_logits():
    assert softmax_mse(f32(A).bfloat16(), f32(B).bfloat16()).dtype == torch.float32


def network(weight: float, mean: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(net[0].weight, weight)
    net[1].running_mean.fill_(mean)
    return net


def test_ema_equals_the_sum_it_stands_for():
    net, values = network(1.0, 0.0), rng.normal(size=30)
    ema = EMA(decay=0.9, warmup=False, bn="own").bind(net)
    for step, value in enumerate(values):
        nn.init.constant_(net[0].weight, value)
        ema.update(net, torch.tensor(float(step)))
    expected = 0.9**30 + sum(0.1 * 0.9 ** (29 - i) * v for i, v in enumerate(values))
    assert ema.model[0].weight.item() == pytest.approx(expected, rel=1e-5)


def test_warm_up_takes_the_decay_from_one_half_to_its_value():
    ema = EMA(decay=0.99, warmup=True, bn="own")
    found = [ema.decay_at(torch.tensor(float(step))).item() for step in (0, 1, 8, 97, 98, 99, 5000)]
    assert found == pytest.approx([1 / 2, 2 / 3, 9 / 10, 98 / 99, 0.99, 0.99, 0.99])


@pytest.mark.parametrize(("policy", "expected"), [("own", 0.0), ("copy", 10.0), ("average", 1.0)])
def test_batch_norm_policies(policy, expected):
    ema = EMA(decay=0.9, warmup=False, bn=policy).bind(network(0, 0))
    student = network(5, 10)
    student[1].num_batches_tracked.fill_(7)
    ema.update(student, torch.tensor(0.0))
    assert ema.model[1].running_mean.item() == pytest.approx(expected)
    assert ema.model[1].num_batches_tracked.item() == (0 if policy == "own" else 7)
    assert ema.model[0].weight.item() == pytest.approx(0.5)


def test_ema_moves_at_a_decay_that_bfloat16_would_lose():
    ema = EMA(decay=0.9999, warmup=False, bn="own").bind(network(1.0, 0))
    for step in range(100):
        ema.update(network(2.0, 0), torch.tensor(float(step)))
    assert ema.model[0].weight.item() == pytest.approx(2 - 0.9999**100, rel=1e-5)


@pytest.mark.parametrize(("policy", "expected"), [("own", 1.2), ("copy", 10.0), ("average", 1.0)])
def test_only_own_statistics_are_updated_by_the_passes_of_a_teacher_in_training_mode(policy, expected):
    """The student's running mean is 10, the images' mean 12; momentum and 1 - decay are 0.1, and means start at 0."""
    student = nn.BatchNorm2d(1, momentum=0.1)
    teacher = Teacher(decay=0.9, warmup=False, bn=policy, mode="train").bind(student)
    teacher(torch.full((2, 1, 2, 2), 12.0))
    student.running_mean.fill_(10.0)
    teacher.update(student, torch.tensor(0))
    torch.testing.assert_close(teacher.model.running_mean, torch.tensor([expected]))

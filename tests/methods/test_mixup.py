"""Mixup: the distributions of its draws, mixing and sharpening against NumPy, and guessed labels."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import f32, softmax
from mixing_by_hand import sharpened
from torch import nn

from meanteacher.methods.common import mixup

CPU = torch.device("cpu")


@pytest.mark.parametrize("alpha", [0.1, 0.75, 1.0, 4.0])
def test_beta_has_the_moments_of_its_distribution(alpha):
    torch.manual_seed(0)
    n = 100_000
    drawn = mixup.draw_beta(alpha, n, CPU).double()
    assert drawn.shape == (n,) and drawn.min() >= 0 and drawn.max() <= 1
    moment = np.cumprod([(alpha + i) / (2 * alpha + i) for i in range(8)])  # E x, E x², …
    for k in range(1, 5):
        deviation = np.sqrt((moment[2 * k - 1] - moment[k - 1] ** 2) / n)
        assert drawn.pow(k).mean().item() == pytest.approx(moment[k - 1], abs=4 * deviation)
    lag = torch.corrcoef(torch.stack([drawn[1:], drawn[:-1]]))[0, 1]
    assert lag.abs() < 4 / n**0.5


def test_beta_of_a_tiny_alpha_is_a_coin():
    torch.manual_seed(0)
    drawn = mixup.draw_beta(1e-3, 10_000, CPU)
    assert drawn.isfinite().all() and (drawn > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert ((drawn < 0.01) | (drawn > 0.99)).float().mean() > 0.98


def test_a_compiled_draw_is_the_eager_one():
    torch.compiler.reset()
    batch, draws = torch.zeros(7, 2), []
    for draw in (mixup.draw_pairs, torch.compile(mixup.draw_pairs, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(3)
        draws.append([draw(batch, 0.75, per) for per in ("image", "step")])
    torch.testing.assert_close(*draws)


def test_pairs_are_uniformly_random_permutations():
    torch.manual_seed(0)
    drawn = [tuple(mixup.draw_partners(torch.zeros(3)).tolist()) for _ in range(3000)]
    counts = [drawn.count(p) for p in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]]
    assert sum(counts) == 3000 and all(abs(c - 500) < 100 for c in counts)


def test_an_image_or_a_step_has_a_weight_of_its_own():
    batch = torch.zeros(5, 1)
    partner, weight = mixup.draw_pairs(batch, 0.75, "image")
    assert sorted(partner.tolist()) == list(range(5)) and len(set(weight.tolist())) == 5
    assert mixup.draw_pairs(batch, 0.75, "step")[1].shape == (1,)


def test_mix_and_sharpen():
    rng = np.random.default_rng(0)
    a, b, w = rng.normal(size=(4, 3, 2, 2)), rng.normal(size=(4, 3, 2, 2)), rng.uniform(size=4)
    wide = w[:, None, None, None]
    np.testing.assert_allclose(mixup.mix(f32(a), f32(b), f32(w)), wide * a + (1 - wide) * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixup.mix(f32(a), f32(b), f32(w[:1])), w[0] * a + (1 - w[0]) * b, rtol=1e-5, atol=1e-6)
    p = softmax(3 * rng.normal(size=(6, 4)))
    for temperature in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(mixup.sharpen(f32(p), temperature), sharpened(p, temperature), rtol=1e-4)
    assert mixup.sharpen(torch.full((1, 1000), 1e-3), 1e-3).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("moves", [False, True])
def test_a_guess_moves_the_running_statistics_where_asked(moves):
    student = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    before = copy.deepcopy(student.state_dict())
    images = torch.randn(20, 5) + 3
    probs = mixup.guess_labels(student, images, moves_statistics=moves)
    same = [torch.equal(value, before[name]) for name, value in student.state_dict().items()]
    assert all(same) != moves and student.training and not probs.requires_grad
    torch.testing.assert_close(probs, student(images).softmax(1), msg="by the batch's statistics")

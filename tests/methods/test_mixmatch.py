"""MixMatch's loss compared with NumPy for fixed random draws, and behavior that it shares with ReMixMatch."""

import numpy as np
import pytest
import torch
from closed_forms import f32, slope, softmax
from conftest import parsed
from mixing_by_hand import LINEAR, ONE_HOT, STEP, cross_entropy, give_draws, mixed, sharpened
from small_problems import step_images
from torch import nn

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.mixmatch import MixMatch
from meanteacher.runs.build import build_method


@pytest.mark.parametrize(("per", "passes"), [("image", "together"), ("step", "together"), ("image", "interleaved")])
def test_mixmatch_loss_equals_its_closed_form(monkeypatch, per, passes):
    rng = np.random.default_rng(2)
    weights, x = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    u, u2 = rng.normal(size=(2, 6, 5))
    method = MixMatch(
        student=nn.Linear(5, 3, bias=False),
        temperature=0.4,
        alpha=0.6,
        weight_per=per,
        passes=passes,
        guess_moves_statistics=False,
        unlabeled_weight=7.0,
        unlabeled_ramp=LINEAR,
    )
    method.student.weight.data = f32(weights)
    partner, weight = rng.permutation(16), rng.uniform(size=16) if per == "image" else np.array([0.2])
    give_draws(monkeypatch, (partner, weight))
    output = method.training_step(*step_images([x], [u, u2]), STEP)
    output.loss.backward()
    q = sharpened((softmax(u @ weights.T) + softmax(u2 @ weights.T)) / 2, 0.4)
    larger = np.maximum(weight, 1 - weight)
    images = mixed(np.concatenate([x, u, u2]), partner, larger)
    targets = mixed(np.concatenate([ONE_HOT, q, q]), partner, larger)

    def consistency(w):
        return ((softmax(images[4:] @ w.T) - targets[4:]) ** 2).mean()

    def loss(w):  # the guessed labels carry no gradient, so they do not depend on w
        return cross_entropy(images[:4] @ w.T, targets[:4]) + 7 * 0.4 * consistency(w)

    assert output.loss.item() == pytest.approx(loss(weights), rel=1e-5)
    assert output.metrics["consistency"].item() == pytest.approx(consistency(weights), rel=1e-4)
    assert output.metrics["confidence"].item() == pytest.approx(q.max(1).mean(), rel=1e-5)
    np.testing.assert_allclose(method.student.weight.grad, slope(loss, weights, h=1e-5), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["mixmatch", "remixmatch"])
@pytest.mark.parametrize("moves", [False, True])
def test_running_statistics_move_once_or_also_by_the_guess(blobs, name, moves):
    changes = [f"method={name}", "model=wrn_10_1", "steps=100", f"method.guess_moves_statistics={str(moves).lower()}"]
    method = build_method(parsed(*changes), blobs).train()
    labeled = Labeled(torch.arange(4), (torch.randn(4, 3, 8, 8),), torch.arange(4))
    views = tuple(torch.randn(6, 3, 8, 8) for _ in method.views.unlabeled)
    method.training_step(labeled, Unlabeled(torch.arange(6), views), STEP)
    counts = [b.item() for n, b in method.student.named_buffers() if n.endswith("num_batches_tracked")]
    assert set(counts) == {2 if moves else 1}


def test_without_the_ramp_only_labeled_and_rotation_count(blobs):
    start = torch.tensor(0.0)
    for name, rest in (("mixmatch", ()), ("remixmatch", ("rotation",))):
        method = build_method(parsed(f"method={name}", "model=wrn_10_1", "steps=1000"), blobs).train()
        labeled = Labeled(torch.arange(4), (torch.randn(4, 3, 8, 8),), torch.arange(4))
        unlabeled = Unlabeled(torch.arange(6), tuple(torch.randn(6, 3, 8, 8) for _ in method.views.unlabeled))
        output = method.training_step(labeled, unlabeled, start)
        expected = output.metrics["supervised"] + sum(0.5 * output.metrics[term] for term in rest)
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert method.ramp(torch.tensor(1000 / 64)).item() == pytest.approx(1) and method.ramp(start + 7).item() < 0.5

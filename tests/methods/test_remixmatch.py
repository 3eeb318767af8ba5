"""ReMixMatch's loss and running means against NumPy with draws that the test chooses, and its rotations."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from closed_forms import f32, slope, softmax
from mixing_by_hand import LINEAR, ONE_HOT, STEP, cross_entropy, give_draws, mixed, sharpened
from small_problems import step_images
from torch import nn

from meanteacher.methods import remixmatch
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.remixmatch import ReMixMatch
from meanteacher.models.base import Network

TURNS = np.array([0, 1, 2, 3, 1, 3])
"""The quarter turns of the 6 unlabeled images."""


class TwoPlaces(Network):
    """A linear stem on 2×2 images, which gives 3 features at 2 places, then a linear classifier of their mean."""

    feature_channels = 3

    def __init__(self):
        super().__init__()
        self.stem, self.classifier = nn.Linear(4, 6, bias=False), nn.Linear(3, 3, bias=False)

    def features(self, images):
        return self.stem(images.flatten(1)).view(-1, 3, 2, 1)

    def head(self, features):
        return self.classifier(self.pool(features))


class Weights(NamedTuple):
    """The weights of `TwoPlaces` and of ReMixMatch's rotation head."""

    stem: np.ndarray
    head: np.ndarray
    rotation: np.ndarray


def remixmatch_with(weights, marginal, strong_views):
    method = ReMixMatch(
        student=TwoPlaces(),
        num_classes=3,
        labeled_view="strong",
        strong_views=strong_views,
        temperature=0.4,
        marginal=marginal,
        alignment=DistributionAlignment(decay=0.7, start="uniform"),
        alpha=0.6,
        weight_per="image",
        guess_moves_statistics=False,
        mixed_weight=1.7,
        strong_weight=0.6,
        rotation_weight=0.9,
        unlabeled_ramp=LINEAR,
    )
    method.student.stem.weight.data, method.student.classifier.weight.data = f32(weights.stem), f32(weights.head)
    method.rotation_head.weight.data, method.rotation_head.bias.data = f32(weights.rotation), torch.zeros(4)
    return method


def pooled(images, stem):
    """The mean features of `TwoPlaces`, in NumPy."""
    return (images.reshape(len(images), 4) @ stem.T).reshape(-1, 3, 2).mean(2)


def turned(image, quarters):
    """A 2×2 image, [1, 2, 2], turned counterclockwise by hand."""
    ((a, b), (c, d)) = image[0]
    return np.array([[[[a, b], [c, d]], [[b, d], [a, c]], [[d, c], [b, a]], [[c, a], [d, b]]][quarters]])


def mixed_batch(x, views, q, partner, weight):
    """The images and targets of ReMixMatch's mixed batch; q: the targets of all unlabeled views."""
    larger = np.maximum(weight, 1 - weight)
    targets = np.concatenate([ONE_HOT, *[q] * len(views)])
    return mixed(np.concatenate([x, *views]), partner, larger), mixed(targets, partner, larger)


def terms(weights, images, targets, strong, q):
    """The terms of the loss for a mixed batch, the first strong view and its targets."""
    logits = pooled(images, weights.stem) @ weights.head.T
    rotated = np.stack([turned(image, k) for image, k in zip(strong, TURNS, strict=True)])
    return {
        "supervised": cross_entropy(logits[:4], targets[:4]),
        "mixed": cross_entropy(logits[4:], targets[4:]),
        "strong": cross_entropy(pooled(strong, weights.stem) @ weights.head.T, q),
        "rotation": cross_entropy(pooled(rotated, weights.stem) @ weights.rotation.T, np.eye(4)[TURNS]),
    }


def weighted_sum(values):
    unsupervised = 1.7 * values["mixed"] + 0.6 * values["strong"]
    return values["supervised"] + 0.4 * unsupervised + 0.9 * values["rotation"]


def check_step(method, output, weights, *images_and_targets):
    """Compare the terms, the loss and its gradient with the closed form."""
    expected = terms(weights, *images_and_targets)
    for name, value in expected.items():
        assert output.metrics[name].item() == pytest.approx(value, rel=1e-4), name
    assert output.loss.item() == pytest.approx(weighted_sum(expected), rel=1e-4)

    def loss(stem):
        return weighted_sum(terms(weights._replace(stem=stem), *images_and_targets))

    gradient = slope(loss, weights.stem, h=1e-5)
    np.testing.assert_allclose(method.student.stem.weight.grad, gradient, rtol=2e-3, atol=1e-4)
    assert method.rotation_head.weight.grad.any()


@pytest.mark.parametrize("marginal", ["labeled", "uniform"])
@pytest.mark.parametrize("strong_views", [1, 2])
def test_remixmatch_loss_equals_its_closed_form_at_every_step(monkeypatch, marginal, strong_views):
    rng = np.random.default_rng(3)
    weights = Weights(rng.normal(size=(6, 4)), rng.normal(size=(3, 3)), rng.normal(size=(4, 3)))
    method = remixmatch_with(weights, marginal, strong_views)
    assert method.views.labeled == ("strong",) and method.views.unlabeled == ("weak", *["strong"] * strong_views)
    monkeypatch.setattr(remixmatch, "draw_quarter_turns", lambda images: torch.tensor(TURNS))
    guesses, labels = np.full(3, 1 / 3), np.full(3, 1 / 3)
    for _ in range(3):
        x, views = rng.normal(size=(4, 1, 2, 2)), rng.normal(size=(1 + strong_views, 6, 1, 2, 2))
        n = 4 + 6 * (1 + strong_views)
        partner, weight = rng.permutation(n), rng.uniform(size=n)
        give_draws(monkeypatch, (partner, weight))
        method.zero_grad()
        output = method.training_step(*step_images([x], views), STEP)
        output.loss.backward()
        p = softmax(pooled(views[0], weights.stem) @ weights.head.T)
        guesses = 0.7 * guesses + 0.3 * p.mean(0)
        labels = 0.7 * labels + 0.3 * ONE_HOT.mean(0) if marginal == "labeled" else labels
        aligned = p * labels / guesses
        q = sharpened(aligned / aligned.sum(1, keepdims=True), 0.4)
        check_step(method, output, weights, *mixed_batch(x, views, q, partner, weight), views[1], q)
    kept = method.state_dict()
    np.testing.assert_allclose(kept["alignment.model"], guesses, rtol=1e-5)
    np.testing.assert_allclose(kept["alignment.target"], labels, rtol=1e-5)


def test_every_image_is_turned_by_its_own_quarters():
    torch.manual_seed(0)
    images = np.random.default_rng(5).normal(size=(400, 1, 2, 2))
    turns = remixmatch.draw_quarter_turns(f32(images))
    assert all(abs((turns == k).sum().item() - 100) < 40 for k in range(4)) and turns.max() == 3
    by_hand = np.stack([turned(image, k) for image, k in zip(images, turns.tolist(), strict=True)])
    np.testing.assert_array_equal(remixmatch.rotate(f32(images), turns), f32(by_hand))

"""Dash, DeFixMatch, SequenceMatch and CR-Match against NumPy, on linear networks."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, kl, softmax
from small_problems import CLASSES, FACTS, IMAGES, STEP, Problem
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import crmatch as crmatch_module
from meanteacher.methods.common.feature_maps import average_cells
from meanteacher.methods.common.weighting import CurriculumThreshold, FixedThreshold, TruncatedGaussian
from meanteacher.methods.crmatch import CRMatch
from meanteacher.methods.dash import Dash
from meanteacher.methods.defixmatch import DeFixMatch
from meanteacher.methods.sequencematch import SequenceMatch
from meanteacher.models import Network

# Dash


def dash(student, **changes):
    keys = {"unlabeled_weight": 2.0, "temperature": 0.4, "factor": 1.1, "gamma": 1.6, "minimum": 0.3, "steps": 100}
    return Dash(student=student, num_classes=CLASSES, **(keys | {"warmup": 0.03, "interval": 0.02} | changes))


def test_dash_equals_a_loop_over_its_warm_up_the_falling_threshold_and_its_minimum():
    one, losses, kinds, kept = dash(Problem().student()), [], [], set()
    for step in range(16):
        problem = Problem(seed=step)
        problem.weights = Problem().weights
        supervised = ce(problem.z(problem.x), problem.target).mean()
        losses += [supervised] * (step < 3)
        level = 1.1 * 1.6 ** -max((step - 3) // 2, 0) * np.mean(losses)
        z, hard = problem.z(problem.u), level <= 0.3
        q = np.eye(CLASSES)[z.argmax(1)] if hard else softmax(z / 0.4)
        mask = (step >= 3) & (-(q * np.log(softmax(z))).sum(1) <= max(level, 0.3))
        strong = (mask * -(q * np.log(softmax(problem.z(problem.u2)))).sum(1)).mean()
        output = problem.run(one, torch.tensor(float(step)))
        assert output.metrics["threshold"].item() == pytest.approx(max(level, 0.3), rel=1e-5)
        assert output.metrics["kept"].item() == pytest.approx(mask.mean())
        assert output.loss.item() == pytest.approx(supervised + 2 * strong, rel=1e-5)
        assert problem.judge_has_no_gradient(), "the target carries no gradient"
        kinds.append("warm-up" if step < 3 else "hard" if hard else "soft")
        kept.add(mask.mean())
    assert {*kinds} == {"warm-up", "soft", "hard"} and len(kept) > 4, "else the test would not see the difference"


def test_dash_without_a_warm_up_starts_at_the_loss_of_a_uniform_prediction():
    problem = Problem()
    assert problem.run(dash(problem.student(), warmup=0), torch.tensor(0.0)).metrics[
        "threshold"
    ].item() == pytest.approx(1.1 * np.log(CLASSES))


# DeFixMatch


def defixmatch(student, weighting):
    return DeFixMatch(student=student, weighting=weighting, unlabeled_weight=2.0, **FACTS)


def test_defixmatch_loss_and_gradient_equal_their_closed_form():
    problem = Problem()
    output = problem.run(defixmatch(problem.student(), FixedThreshold(threshold=0.8)))

    def unlabeled_loss(weak, strong):
        q = softmax(problem.z(weak))
        return q.max(1) >= 0.8, (q.max(1) >= 0.8) * ce(problem.z(strong), q.argmax(1))

    supervised = (
        ce(problem.z(problem.x), problem.target).mean() + ce(problem.z(problem.x2), problem.target).mean()
    ) / 2
    kept, unlabeled = unlabeled_loss(problem.u, problem.u2)
    labeled_kept, bias = unlabeled_loss(problem.x, problem.x2)
    assert 0 < kept.sum() < 12 and 0 < labeled_kept.sum() < 4 and bias.mean() > 1e-3
    assert output.loss.item() == pytest.approx(supervised + 2 * (unlabeled.mean() - bias.mean()), rel=1e-5)
    assert output.metrics["kept"].item() == pytest.approx(kept.mean())
    assert output.metrics["labeled_kept"].item() == pytest.approx(labeled_kept.mean())
    assert problem.judge_has_no_gradient()
    by_hand = (softmax(problem.z(problem.x)) - np.eye(CLASSES)[problem.target]) @ problem.weights / 8
    np.testing.assert_allclose(problem.labeled[0].grad.numpy(), by_hand, rtol=1e-3, atol=1e-6)


def test_defixmatchs_weighting_sees_labeled_and_unlabeled_images_by_their_index():
    problem = Problem()
    one = defixmatch(problem.student(), CurriculumThreshold(threshold=0.7))
    problem.index = np.arange(4, 16)
    problem.run(one)
    q = softmax(problem.z(np.concatenate([problem.x, problem.u])))
    expected = np.full(IMAGES, -1)
    expected[:16] = np.where(q.max(1) >= 0.7, q.argmax(1), -1)
    assert one.weighting.learned.tolist() == expected.tolist()


# SequenceMatch


def sequencematch(student, weighting):
    keys = {"unlabeled_weight": 2.0, "temperature": 0.4, "low_confidence_weight": 0.5}
    return SequenceMatch(student=student, weighting=weighting, **keys, **FACTS)


@pytest.mark.parametrize("weighting", [FixedThreshold, CurriculumThreshold])
def test_sequencematch_loss_and_gradients_equal_their_closed_form(weighting):
    problem = Problem()
    one = sequencematch(problem.student(), weighting(threshold=0.7))
    output = problem.run(one)
    weak, medium, strong = (problem.z(views) for views in (problem.u, problem.u2, problem.u3))
    confident_weak, confident_medium = (softmax(z).max(1) >= 0.7 for z in (weak, medium))
    mask = confident_weak if weighting is FixedThreshold else np.ones(12, bool)
    assert 0 < confident_weak.sum() < 12 and (confident_weak != confident_medium).any()
    consistency = (mask * ce(strong, weak.argmax(1))).mean()
    pairs = [(weak, medium, confident_weak), (medium, strong, confident_medium), (weak, strong, confident_weak)]
    sequence = sum((kept * kl(softmax(a / 0.4), softmax(b))).mean() for a, b, kept in pairs)
    low = (~mask * kl(softmax(weak / 0.4), softmax(strong))).mean()
    supervised = ce(problem.z(problem.x), problem.target).mean()
    assert output.loss.item() == pytest.approx(supervised + 2 * (consistency + sequence + 0.5 * low), rel=1e-4)
    assert output.metrics["sequence"].item() == pytest.approx(sequence, rel=1e-4)
    assert problem.judge_has_no_gradient()
    by_hand = 2 / 12 * confident_weak[:, None] * (softmax(medium) - softmax(weak / 0.4)) @ problem.weights
    np.testing.assert_allclose(problem.unlabeled[1].grad.numpy(), by_hand, rtol=1e-3, atol=1e-6)


def test_sequencematch_needs_a_weighting_with_a_threshold():
    with pytest.raises(UserError, match="SequenceMatch needs a threshold"):
        sequencematch(
            nn.Linear(5, 3),
            TruncatedGaussian(decay=0.9, n_sigma=2.0, uniform_alignment=False, alignment_start="uniform"),
        )


# CR-Match


class Maps(Network):
    """A linear map of squares of 2 × 2 pixels, which a rotation changes, then a linear classifier of the mean."""

    def __init__(self):
        super().__init__()
        self.feature_channels = 3
        self.squares = nn.Conv2d(2, 3, 2, stride=2, bias=False)
        self.classifier = nn.Linear(3, CLASSES)

    def features(self, images):
        return self.squares(images)


@pytest.mark.parametrize("kind", ["equivariant", "invariant"])
def test_crmatch_loss_equals_its_closed_form(kind, monkeypatch):
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    x, (weak, strong) = rng.normal(size=(4, 2, 8, 8)), rng.normal(size=(2, 8, 2, 8, 8))
    target, turns = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 3, 3, 2, 1, 1])
    monkeypatch.setattr(crmatch_module, "draw_quarter_turns", lambda images: torch.tensor(turns))
    weights = {"unlabeled_weight": 2.0, "distance_weight": 3.0, "rotation_weight": 0.5}
    weighting = FixedThreshold(threshold=0.5)
    one = CRMatch(student=Maps(), weighting=weighting, distance=kind, map_side=2, **weights, **FACTS)
    one.student.classifier.weight.data *= 20
    one.projection.bias.data /= 10  # else all cosines are positive
    views = tuple(f32(view).requires_grad_() for view in (weak, strong))
    output = one.training_step(
        Labeled(torch.arange(4), (f32(x),), torch.tensor(target)), Unlabeled(torch.arange(8), views), STEP
    )
    output.loss.backward()
    p = {name: value.detach().double().numpy() for name, value in one.named_parameters()}

    def maps(images):
        return np.einsum("ocij,bchiwj->bohw", p["student.squares.weight"], images.reshape(-1, 2, 4, 2, 4, 2))

    def logits(images):
        return maps(images).mean((2, 3)) @ p["student.classifier.weight"].T + p["student.classifier.bias"]

    def projected(images):
        cells = maps(images).reshape(-1, 3, 2, 2, 2, 2).mean((3, 5)).reshape(-1, 12)
        return cells @ p["projection.weight"].T + p["projection.bias"]

    def turn_logits(images):
        hidden = maps(images).mean((2, 3)) @ p["rotation_head.0.weight"].T + p["rotation_head.0.bias"]
        return np.maximum(hidden, 0) @ p["rotation_head.2.weight"].T + p["rotation_head.2.bias"]

    q = softmax(logits(weak))
    mask = q.max(1) >= 0.5
    a, b = projected(weak), projected(strong)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0 < mask.sum() < 8 and (cosine[mask] < 0).any() and (cosine[mask] > 0).any()
    distance = (mask * (np.maximum(cosine, 0) if kind == "equivariant" else 1 - cosine)).mean()
    turned = np.stack([np.rot90(image, k, (1, 2)) for image, k in zip(weak, turns, strict=True)])
    rotation = ce(turn_logits(turned), turns).mean()
    expected = ce(logits(x), target).mean() + 2 * (mask * ce(logits(strong), q.argmax(1))).mean()
    assert output.metrics["distance"].item() == pytest.approx(distance, rel=1e-4)
    assert output.metrics["rotation"].item() == pytest.approx(rotation, rel=1e-5)
    assert output.loss.item() == pytest.approx(expected + 3 * distance + 0.5 * rotation, rel=1e-4)
    assert all(parameter.grad.any() for parameter in one.parameters())


@pytest.mark.parametrize(("distance_weight", "rotation_weight"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_crmatchs_weak_view_learns_from_the_distance_and_the_rotation_alone(distance_weight, rotation_weight):
    weights = {"unlabeled_weight": 1.0, "distance_weight": distance_weight, "rotation_weight": rotation_weight}
    weighting = FixedThreshold(threshold=0.0)
    one = CRMatch(student=Maps(), weighting=weighting, distance="invariant", map_side=4, **weights, **FACTS)
    weak, strong = torch.randn(6, 2, 8, 8, requires_grad=True), torch.randn(6, 2, 8, 8)
    labeled = Labeled(torch.arange(3), (torch.randn(3, 2, 8, 8),), torch.arange(3))
    one.training_step(labeled, Unlabeled(torch.arange(6), (weak, strong)), STEP).loss.backward()
    assert weak.grad.any() == bool(distance_weight or rotation_weight)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 8])
def test_cells_are_averaged_as_by_torch(side):
    maps = torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(average_cells(maps, side), nn.functional.adaptive_avg_pool2d(maps, side))

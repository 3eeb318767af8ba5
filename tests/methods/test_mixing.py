"""Mixup's parts, and the losses of ICT, MixMatch and ReMixMatch against NumPy in float64 with given random draws."""

import copy

import numpy as np
import pytest
import torch
from conftest import parsed
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import remixmatch
from meanteacher.methods.common import mixup
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.ict import ICT
from meanteacher.methods.mixmatch import MixMatch
from meanteacher.methods.remixmatch import ReMixMatch
from meanteacher.models.base import Network
from meanteacher.optim.schedules import Constant
from meanteacher.runs.build import build_method

CPU = torch.device("cpu")
LINEAR = Constant(steps=100, warmup=0.5, warmup_shape="linear")
STEP = torch.tensor(20.0)  # LINEAR gives .4 there


def f32(array):
    return torch.tensor(array, dtype=torch.float32)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(logits, target):
    return -(target * np.log(softmax(logits))).sum(1).mean()


def sharpened(p, temperature):
    p = p ** (1 / temperature)
    return p / p.sum(1, keepdims=True)


def mixed(a, partner, weight):
    weight = np.broadcast_to(weight, len(a)).reshape(-1, *[1] * (a.ndim - 1))
    return weight * a + (1 - weight) * a[partner]


def derivative(loss, weights):
    """Central differences of a function of an array."""
    found = np.zeros_like(weights)
    for i in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[i] = 1e-5
        found[i] = (loss(weights + step) - loss(weights - step)) / 2e-5
    return found


@pytest.fixture
def given(monkeypatch):
    """Give the next pairs and weights to be drawn, in order."""

    def give(*draws):
        partners, weights = [d[0] for d in draws], [d[1] for d in draws]

        def beta(alpha, count, device):
            weight = weights.pop(0)
            assert (alpha, count) == (0.6, len(weight))
            return f32(weight)

        monkeypatch.setattr(mixup, "draw_partners", lambda batch: torch.tensor(partners.pop(0)))
        monkeypatch.setattr(mixup, "draw_beta", beta)

    return give


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
    batch, found = torch.zeros(7, 2), []
    for draw in (mixup.draw_pairs, torch.compile(mixup.draw_pairs, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(3)
        found.append([draw(batch, 0.75, per) for per in ("image", "step")])
    torch.testing.assert_close(*found)


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


def batch(x, target, *views):
    return (
        Labeled(torch.arange(len(x)), (f32(x),), torch.tensor(target)),
        Unlabeled(torch.arange(len(views[0])), tuple(map(f32, views))),
    )


TARGET = np.array([0, 1, 2, 0])
Y = np.eye(3)[TARGET]


@pytest.mark.parametrize("mix_labeled", [True, False])
@pytest.mark.parametrize("per", ["image", "step"])
def test_ict_loss_equals_its_closed_form(given, per, mix_labeled):
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 3, 5))
    x, u = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    one = ICT(
        student=nn.Linear(5, 3, bias=False),
        teacher=Teacher(decay=0.9, warmup=False, bn="own", mode="train"),
        alpha=0.6,
        weight_per=per,
        mix_labeled=mix_labeled,
        consistency_weight=7.0,
        consistency_ramp=LINEAR,
    )
    one.student.weight.data, one.teacher.model.weight.data = f32(student), f32(teacher)
    pu, px = [5, 3, 0, 2, 1, 4], [2, 0, 1, 3]
    wu, wx = ([0.1, 0.7, 1.0, 0.0, 0.4, 0.8], [0.2, 0.9, 0.6, 0.5]) if per == "image" else ([0.35], [0.2])
    given((pu, wu), (px, wx))
    output = one.training_step(*batch(x, TARGET, u), STEP)
    output.loss.backward()
    q = mixed(softmax(u @ teacher.T), pu, wu)
    ux, xx, y = mixed(u, pu, wu), *((mixed(x, px, wx), mixed(Y, px, wx)) if mix_labeled else (x, Y))

    def consistency(w):
        return ((softmax(ux @ w.T) - q) ** 2).mean()

    def loss(w):
        return cross_entropy(xx @ w.T, y) + 7 * 0.4 * consistency(w)

    assert output.loss.item() == pytest.approx(loss(student), rel=1e-5)
    assert output.metrics["consistency"].item() == pytest.approx(consistency(student), rel=1e-4)
    np.testing.assert_allclose(one.student.weight.grad, derivative(loss, student), rtol=1e-3, atol=1e-5)
    assert one.teacher.model.weight.grad is None


def test_icts_teacher_is_mean_teachers(blobs):
    one = build_method(parsed("method=ict", "model=wrn_10_1"), blobs).train()
    old = one.teacher.model.classifier.weight.clone()
    with torch.no_grad():
        one.student.classifier.weight.add_(1)
    one.after_step(torch.tensor(0.0))
    assert torch.allclose(one.teacher.model.classifier.weight, old + 0.5)
    assert list(one.eval_models()) == ["student", "teacher"] and one.teacher.model.training
    with pytest.raises(UserError, match="teacher.bn=own"):
        build_method(parsed("method=ict", "method.teacher.mode=eval", "model=wrn_10_1"), blobs)


@pytest.mark.parametrize(("per", "passes"), [("image", "together"), ("step", "together"), ("image", "interleaved")])
def test_mixmatch_loss_equals_its_closed_form(given, per, passes):
    rng = np.random.default_rng(2)
    weights, x = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    u, u2 = rng.normal(size=(2, 6, 5))
    one = MixMatch(
        student=nn.Linear(5, 3, bias=False),
        temperature=0.4,
        alpha=0.6,
        weight_per=per,
        passes=passes,
        guess_moves_statistics=False,
        unlabeled_weight=7.0,
        unlabeled_ramp=LINEAR,
    )
    one.student.weight.data = f32(weights)
    partner, weight = rng.permutation(16), rng.uniform(size=16) if per == "image" else np.array([0.2])
    given((partner, weight))
    output = one.training_step(*batch(x, TARGET, u, u2), STEP)
    output.loss.backward()
    q = sharpened((softmax(u @ weights.T) + softmax(u2 @ weights.T)) / 2, 0.4)
    larger = np.maximum(weight, 1 - weight)
    images = mixed(np.concatenate([x, u, u2]), partner, larger)
    targets = mixed(np.concatenate([Y, q, q]), partner, larger)

    def consistency(w):
        return ((softmax(images[4:] @ w.T) - targets[4:]) ** 2).mean()

    def loss(w):  # the guess stays that of the weights it was made with: it carries no gradient
        return cross_entropy(images[:4] @ w.T, targets[:4]) + 7 * 0.4 * consistency(w)

    assert output.loss.item() == pytest.approx(loss(weights), rel=1e-5)
    assert output.metrics["consistency"].item() == pytest.approx(consistency(weights), rel=1e-4)
    assert output.metrics["confidence"].item() == pytest.approx(q.max(1).mean(), rel=1e-5)
    np.testing.assert_allclose(one.student.weight.grad, derivative(loss, weights), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["mixmatch", "remixmatch"])
@pytest.mark.parametrize("moves", [False, True])
def test_running_statistics_move_once_or_also_by_the_guess(blobs, name, moves):
    changes = [f"method={name}", "model=wrn_10_1", "steps=100", f"method.guess_moves_statistics={str(moves).lower()}"]
    one = build_method(parsed(*changes), blobs).train()
    labeled = Labeled(torch.arange(4), (torch.randn(4, 3, 8, 8),), torch.arange(4))
    views = tuple(torch.randn(6, 3, 8, 8) for _ in one.views.unlabeled)
    one.training_step(labeled, Unlabeled(torch.arange(6), views), STEP)
    counts = [b.item() for n, b in one.student.named_buffers() if n.endswith("num_batches_tracked")]
    assert set(counts) == {2 if moves else 1}


def test_without_the_ramp_only_labeled_and_rotation_count(blobs):
    start = torch.tensor(0.0)
    for name, rest in (("mixmatch", ()), ("remixmatch", ("rotation",))):
        one = build_method(parsed(f"method={name}", "model=wrn_10_1", "steps=1000"), blobs).train()
        labeled = Labeled(torch.arange(4), (torch.randn(4, 3, 8, 8),), torch.arange(4))
        unlabeled = Unlabeled(torch.arange(6), tuple(torch.randn(6, 3, 8, 8) for _ in one.views.unlabeled))
        output = one.training_step(labeled, unlabeled, start)
        expected = output.metrics["supervised"] + sum(0.5 * output.metrics[term] for term in rest)
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert one.ramp(torch.tensor(1000 / 64)).item() == pytest.approx(1) and one.ramp(start + 7).item() < 0.5


class Tiny(Network):
    """A linear student on 2×2 images, with a map of 3 features at 2 places."""

    feature_channels = 3

    def __init__(self):
        super().__init__()
        self.stem, self.classifier = nn.Linear(4, 6, bias=False), nn.Linear(3, 3, bias=False)

    def features(self, images):
        return self.stem(images.flatten(1)).view(-1, 3, 2, 1)

    def head(self, features):
        return self.classifier(self.pool(features))


def turned(image, quarters):
    """A 2×2 image [1, 2, 2] turned counterclockwise by hand."""
    ((a, b), (c, d)) = image[0]
    return np.array([[[[a, b], [c, d]], [[b, d], [a, c]], [[d, c], [b, a]], [[c, a], [d, b]]][quarters]])


@pytest.mark.parametrize("marginal", ["labeled", "uniform"])
@pytest.mark.parametrize("strong_views", [1, 2])
def test_remixmatch_loss_equals_its_closed_form_at_every_step(given, monkeypatch, marginal, strong_views):
    rng = np.random.default_rng(3)
    stem, head, rotation = rng.normal(size=(6, 4)), rng.normal(size=(3, 3)), rng.normal(size=(4, 3))
    one = ReMixMatch(
        student=Tiny(),
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
    assert one.views.labeled == ("strong",) and one.views.unlabeled == ("weak", *["strong"] * strong_views)
    one.student.stem.weight.data, one.student.classifier.weight.data = f32(stem), f32(head)
    one.rotation_head.weight.data, one.rotation_head.bias.data = f32(rotation), torch.zeros(4)

    def pooled(images, w):
        return (images.reshape(len(images), 4) @ w.T).reshape(-1, 3, 2).mean(2)

    guesses, labels = np.full(3, 1 / 3), np.full(3, 1 / 3)
    for _ in range(3):
        x = rng.normal(size=(4, 1, 2, 2))
        views = rng.normal(size=(1 + strong_views, 6, 1, 2, 2))
        n = 4 + 6 * (1 + strong_views)
        partner, weight, turns = rng.permutation(n), rng.uniform(size=n), np.array([0, 1, 2, 3, 1, 3])
        given((partner, weight))
        monkeypatch.setattr(remixmatch, "draw_quarter_turns", lambda images, turns=turns: torch.tensor(turns))
        one.zero_grad()
        output = one.training_step(*batch(x, TARGET, *views), STEP)
        output.loss.backward()

        p = softmax(pooled(views[0], stem) @ head.T)
        guesses = 0.7 * guesses + 0.3 * p.mean(0)
        labels = 0.7 * labels + 0.3 * Y.mean(0) if marginal == "labeled" else labels
        aligned = p * labels / guesses
        q = sharpened(aligned / aligned.sum(1, keepdims=True), 0.4)
        larger = np.maximum(weight, 1 - weight)
        images = mixed(np.concatenate([x, *views]), partner, larger)
        targets = mixed(np.concatenate([Y, *[q] * (1 + strong_views)]), partner, larger)
        rotated = np.stack([turned(image, k) for image, k in zip(views[1], turns, strict=True)])

        def terms(w, x=images, y=targets, v=views[1], q=q, r=rotated, k=turns):
            logits = pooled(x, w) @ head.T
            return {
                "supervised": cross_entropy(logits[:4], y[:4]),
                "mixed": cross_entropy(logits[4:], y[4:]),
                "strong": cross_entropy(pooled(v, w) @ head.T, q),
                "rotation": cross_entropy(pooled(r, w) @ rotation.T, np.eye(4)[k]),
            }

        def loss(w, terms=terms):
            found = terms(w)
            unsupervised = 1.7 * found["mixed"] + 0.6 * found["strong"]
            return found["supervised"] + 0.4 * unsupervised + 0.9 * found["rotation"]

        for name, value in terms(stem).items():
            assert output.metrics[name].item() == pytest.approx(value, rel=1e-4), name
        assert output.loss.item() == pytest.approx(loss(stem), rel=1e-4)
        np.testing.assert_allclose(one.student.stem.weight.grad, derivative(loss, stem), rtol=2e-3, atol=1e-4)
        assert one.rotation_head.weight.grad.any()
    kept = one.state_dict()
    np.testing.assert_allclose(kept["alignment.model"], guesses, rtol=1e-5)
    np.testing.assert_allclose(kept["alignment.target"], labels, rtol=1e-5)


def test_every_image_is_turned_by_its_own_quarters():
    torch.manual_seed(0)
    images = np.random.default_rng(5).normal(size=(400, 1, 2, 2))
    turns = remixmatch.draw_quarter_turns(f32(images))
    assert all(abs((turns == k).sum().item() - 100) < 40 for k in range(4)) and turns.max() == 3
    by_hand = np.stack([turned(image, k) for image, k in zip(images, turns.tolist(), strict=True)])
    np.testing.assert_array_equal(remixmatch.rotate(f32(images), turns), f32(by_hand))

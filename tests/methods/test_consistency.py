"""Π-model, Temporal Ensembling, VAT, CCT and dual-output Mean Teacher against closed forms in float64 with NumPy."""

import copy

import numpy as np
import pytest
import torch
from conftest import parsed
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.cct import CCT
from meanteacher.methods.common import perturbations
from meanteacher.methods.common.adversarial import adversarial_direction
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import entropy, softmax_kl, softmax_mse_both
from meanteacher.methods.mean_teacher_dual import MeanTeacherDual
from meanteacher.methods.pi_model import PiModel
from meanteacher.methods.temporal_ensembling import TemporalEnsembling, mean_over_equal
from meanteacher.methods.vat import VAT
from meanteacher.models import batch_norm
from meanteacher.models.base import Network
from meanteacher.optim.schedules import Constant
from meanteacher.runs.build import build_method

STEP = torch.tensor(30.0)
RAMP = float(np.exp(-5 * (1 - 0.5) ** 2))
TARGET = np.array([0, 1, 2, 0])
rng = np.random.default_rng(0)


def ramp():
    """RAMP at STEP."""
    return Constant(steps=100, warmup=0.6, warmup_shape="sigmoid")


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


def cross_entropy(logits, target=TARGET):
    return -np.log(softmax(logits)[np.arange(len(target)), target]).mean()


def f32(*arrays):
    return tuple(torch.tensor(a, dtype=torch.float32) for a in arrays)


def given(labeled, unlabeled):
    """A step's images from arrays: one list of views each."""
    return (
        Labeled(torch.arange(len(labeled[0])), f32(*labeled), torch.tensor(TARGET[: len(labeled[0])])),
        Unlabeled(torch.arange(len(unlabeled[0])) + 10, f32(*unlabeled)),
    )


def linear(weights):
    student = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    student.weight.data = f32(weights)[0]
    return student


def slope(function, at, h=1e-6):
    """The gradient of a function of an array by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = h
        found[place] = (function(at + step) - function(at - step)) / (2 * h)
    return found


class Tiny(Network):
    """Features by a 1×1 convolution without activation, 3 classes."""

    feature_channels = 4

    def __init__(self, weights, top):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 1, bias=False)
        self.classifier = linear(top)
        self.conv.weight.data = f32(weights)[0][:, :, None, None]

    def features(self, images):
        return self.conv(images)

    def head(self, features):
        return self.classifier(self.pool(features))


def feature_map(weights, images):
    return np.einsum("dc,bchw->bdhw", weights, images)


def test_losses_equal_their_closed_forms():
    a, b = rng.normal(size=(2, 6, 4))
    p = softmax(a)
    assert entropy(f32(a)[0]).numpy() == pytest.approx(-(p * np.log(p)).sum(1), rel=1e-5)
    x, y = (t.requires_grad_() for t in f32(a, b))
    found = softmax_mse_both(x, y)
    assert found.detach().numpy() == pytest.approx(((p - softmax(b)) ** 2).mean(1), rel=1e-4)
    found.sum().backward()
    assert x.grad.any() and y.grad.any() and torch.isfinite(entropy(torch.tensor([[1e4, 0.0]]))).all()


@pytest.mark.parametrize("on_labeled", [True, False])
@pytest.mark.parametrize(("gradient", "passes"), [("both", "together"), ("one", "together"), ("one", "separate")])
def test_pi_models_loss_and_gradient_equal_their_closed_forms(gradient, passes, on_labeled):
    weights = rng.normal(size=(3, 5))
    x, x2, u, u2 = (rng.normal(size=(n, 5)) for n in (4, 4, 6, 6))
    one = PiModel(
        student=linear(weights),
        gradient=gradient,
        consistency_weight=7.0,
        consistency_ramp=ramp(),
        consistency_on_labeled=on_labeled,
        passes=passes,
    )
    output = one.training_step(*given([x, x2] if on_labeled else [x], [u, u2]), STEP)
    seen, seen2 = (np.concatenate([x, u]), np.concatenate([x2, u2])) if on_labeled else (u, u2)

    def loss(w, second):
        return cross_entropy(x @ w.T) + 7 * RAMP * ((softmax(seen @ w.T) - softmax(seen2 @ second.T)) ** 2).mean()

    assert output.loss.item() == pytest.approx(loss(weights, weights), rel=1e-5)
    output.loss.backward()
    expected = slope(lambda w: loss(w, w if gradient == "both" else weights), weights)
    assert one.student.weight.grad.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)


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
    one, z = ensembling(rng.normal(size=(3, 5)), False), np.zeros((6, 3))
    for epoch in range(1, 6):
        p, order = softmax(rng.normal(size=(6, 3))), rng.permutation(6)
        for batch in (order[:4], order[4:]):
            target, visited = one.visit(torch.tensor(batch) + 7, f32(p[batch])[0])
            if epoch == 1:
                assert not visited.any() and not target.any()
            else:
                assert target.numpy() == pytest.approx(z[batch] / (1 - 0.6 ** (epoch - 1)), rel=1e-5)
        z = 0.6 * z + 0.4 * p
    assert one.ensemble[7:13].numpy() == pytest.approx(z, rel=1e-5)
    assert not one.ensemble[:7].any() and not one.ensemble[13:].any()


@pytest.mark.parametrize("on_labeled", [True, False])
def test_temporal_ensembling_is_exact_for_irregular_visits_and_images_that_recur_in_a_step(on_labeled):
    one, visits = ensembling(rng.normal(size=(3, 5)), on_labeled), {i: [] for i in range(30)}
    images = rng.normal(size=(30, 5))
    for _ in range(8):
        weights = rng.normal(size=(3, 5))
        one.student.weight.data = f32(weights)[0]
        chosen = [rng.choice(6, 4), rng.choice(30, 9)]
        assert len(np.unique(np.concatenate(chosen))) < 13
        views = [images[index] + 0.1 * rng.normal(size=(len(index), 5)) for index in chosen]
        output = one.training_step(
            Labeled(torch.tensor(chosen[0]), f32(views[0]), torch.tensor(TARGET)),
            Unlabeled(torch.tensor(chosen[1]), f32(views[1])),
            STEP,
        )
        index = np.concatenate(chosen) if on_labeled else chosen[1]
        p = softmax((np.concatenate(views) if on_labeled else views[1]) @ weights.T)
        total = 0.0
        for i, row in zip(index, p, strict=True):
            if k := len(visits[i]):
                share = 0.4 * 0.6 ** np.arange(k)[::-1] / (1 - 0.6**k)
                total += ((row - share @ np.array(visits[i])) ** 2).mean() / len(index)
        assert output.loss.item() == pytest.approx(cross_entropy(views[0] @ weights.T) + 7 * RAMP * total, rel=1e-5)
        assert output.metrics["visited"].item() == pytest.approx(np.mean([bool(visits[i]) for i in index]))
        for i in np.unique(index):
            visits[i].append(p[index == i].mean(0))
    assert one.ensemble_weight.numpy() == pytest.approx([1 - 0.6 ** len(visits[i]) for i in range(30)], rel=1e-5)


def test_temporal_ensemblings_target_and_memory_carry_no_gradient():
    weights, x, u = (rng.normal(size=shape) for shape in ((3, 5), (4, 5), (6, 5)))
    one = ensembling(weights, False)
    one.ensemble.fill_(0.2)
    one.ensemble_weight.fill_(0.4)
    one.training_step(*given([x], [u]), STEP).loss.backward()
    expected = slope(lambda w: cross_entropy(x @ w.T) + 7 * RAMP * ((softmax(u @ w.T) - 0.5) ** 2).mean(), weights)
    assert one.student.weight.grad.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert not one.ensemble.requires_grad and one.ensemble.grad_fn is None


def test_an_image_that_recurs_has_one_mean_to_the_bit_and_in_float32():
    index, values = (
        torch.from_numpy(rng.integers(0, 52, 257)),
        torch.from_numpy(rng.random((257, 10), dtype=np.float32)),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mean_over_equal(index, values)
    for i in index.unique():
        rows = found[index == i]
        assert (rows == rows[0]).all()
        assert rows[0].numpy() == pytest.approx(values[index == i].double().mean(0).numpy(), rel=1e-6)


def vat(student, **changes):
    keys = {
        "epsilon": 1.5,
        "xi": 0.01,
        "power_iterations": 2,
        "consistency_weight": 7.0,
        "consistency_ramp": ramp(),
        "entropy_weight": 0.3,
        "unlabeled_moves_statistics": True,
    }
    return VAT(student=student, **(keys | changes))


def unit(d):
    return d / np.linalg.norm(d, axis=1, keepdims=True)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_vats_loss_and_gradient_equal_their_closed_forms(entropy_weight):
    weights, x, u = (rng.normal(size=shape) for shape in ((3, 5), (4, 5), (6, 5)))
    one = vat(linear(weights), entropy_weight=entropy_weight)
    torch.manual_seed(3)
    d = unit(torch.randn(6, 5).double().numpy())
    for _ in range(2):  # the gradient of KL(p ‖ q) with respect to the input is (q − p)W
        d = unit((softmax((u + 0.01 * d) @ weights.T) - softmax(u @ weights.T)) @ weights)
    p0 = softmax(u @ weights.T)

    def loss(w):
        p, q = softmax(u @ w.T), softmax((u + 1.5 * d) @ w.T)
        return cross_entropy(x @ w.T) + 7 * RAMP * kl(p0, q).mean() - entropy_weight * (p * np.log(p)).sum(1).mean()

    torch.manual_seed(3)
    output = one.training_step(*given([x], [u]), STEP)
    assert output.loss.item() == pytest.approx(loss(weights), rel=1e-4)
    output.loss.backward()
    assert one.student.weight.grad.numpy() == pytest.approx(slope(loss, weights), rel=1e-2, abs=1e-4)


def test_vats_direction_is_the_dominant_eigenvector_of_the_kls_hessian():
    weights, u = rng.normal(size=(3, 6)), rng.normal(size=(4, 6))
    torch.manual_seed(0)
    found = adversarial_direction(linear(weights), f32(u)[0], xi=0.01, iterations=20).numpy()
    for image, d in zip(u, found, strict=True):
        p = softmax(image[None] @ weights.T)

        def slope_at(r, image=image, p=p):
            return slope(lambda r: kl(p, softmax((image + r)[None] @ weights.T))[0], r, h=1e-4)

        hessian = np.stack([(slope_at(h) - slope_at(-h)) / 2e-3 for h in 1e-3 * np.eye(6)])
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        assert values[-1] > 1.2 * values[-2], "the example has a dominant direction"
        assert abs(d @ vectors[:, -1]) > 0.99 and np.linalg.norm(d) == pytest.approx(1, rel=1e-5)


def network(*overrides):
    """A small VAT method as configured, its student after a change of weights and of statistics."""

    class Facts:
        classes = range(4)
        train = type("Part", (), {"pixels": np.zeros((200, 3, 8, 8)), "targets": np.zeros(200)})

    torch.manual_seed(0)
    one = build_method(parsed("method=vat", "model=wrn_10_1", "model.bn_momentum=0.1", *overrides), Facts).train()
    with torch.no_grad():
        one.student.classifier.weight.mul_(3)
        one.student(torch.randn(16, 3, 8, 8))
    return one


def test_vats_direction_does_not_depend_on_autocast():
    one, images, found = network(), torch.randn(8, 3, 8, 8), []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(adversarial_direction(one.student, images, xi=0.01, iterations=2))
    assert torch.equal(*found) and found[0].dtype == torch.float32


def test_vats_direction_is_that_of_float64():
    one, images, found = network(), torch.randn(8, 3, 8, 8), []
    noise = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: noise.to(like.dtype))
        patch.setattr(torch.Tensor, "float", lambda self: self)
        for dtype, xi in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
            student = copy.deepcopy(one.student).to(dtype)
            found.append(adversarial_direction(student, images.to(dtype), xi=xi, iterations=1).double().flatten(1))
    assert (found[0] * found[1]).sum(1).min() > 0.99


def test_vats_direction_leaves_weights_gradients_and_statistics_alone():
    one, images = network("model.dropout=0.5"), torch.randn(8, 3, 8, 8)
    before = {name: value.clone() for name, value in one.student.state_dict().items()}
    adversarial_direction(one.student, images, xi=0.01, iterations=2)
    assert all(p.grad is None for p in one.student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in one.student.state_dict().items())
    kept = [torch.full_like(p, 3.0) for p in one.student.parameters()]
    for p, value in zip(one.student.parameters(), kept, strict=True):
        p.grad = value.clone()
    assert not adversarial_direction(one.student, images, xi=0.01, iterations=1).requires_grad
    assert all(torch.equal(p.grad, value) for p, value in zip(one.student.parameters(), kept, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_vats_statistics_are_those_of_the_clean_passes(compiled):
    one = network()
    labeled, unlabeled = given([rng.normal(size=(4, 3, 8, 8))], [rng.normal(size=(6, 3, 8, 8))])
    other = copy.deepcopy(one.student)
    other(labeled.views[0])
    other(unlabeled.views[0])
    work = torch.compile(one.training_step, fullgraph=False, backend="eager") if compiled else one.training_step
    work(labeled, unlabeled, STEP)
    assert all(torch.equal(a, b) for a, b in zip(one.student.buffers(), other.buffers(), strict=True))
    assert all(m.training and getattr(m, "track_running_stats", True) for m in one.student.modules())


def test_vat_has_no_dropout_on_unlabeled_images():
    images, found = given([rng.normal(size=(4, 3, 8, 8))], [rng.normal(size=(6, 3, 8, 8))]), []
    noise = torch.randn(6, 3, 8, 8)
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        one = network(f"model.dropout={dropout}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda like: noise)
            found.append(one.training_step(*images, STEP).metrics)
        assert one.student.blocks[0].body[3].training
    assert found[0]["consistency"] == found[1]["consistency"] and found[0]["supervised"] != found[1]["supervised"]


def test_still_statistics_normalize_as_before_and_come_back_after_an_error():
    norm, images = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)
    with pytest.raises(ZeroDivisionError), batch_norm.freeze_running_stats(norm):
        assert torch.equal(norm(images), copy.deepcopy(norm).train()(images))
        assert not norm.running_mean.any() and norm.num_batches_tracked == 0
        norm.eval()
        assert torch.allclose(norm(images), images, atol=1e-4), "in evaluation mode by the running statistics"
        raise ZeroDivisionError
    assert norm.track_running_stats


def maps():
    """A feature map, and the same as a float32 tensor."""
    z = rng.normal(size=(5, 4, 6, 8))
    return z, f32(z)[0]


def draws(*shapes, seed=4):
    """The numbers that torch.rand gives next for these shapes, after the seed; the generator is back at the seed."""
    torch.manual_seed(seed)
    found = [torch.rand(shape).double().numpy() for shape in shapes]
    torch.manual_seed(seed)
    return found


def test_ccts_noise():
    z, tensor = maps()
    (n,) = draws(z.shape)
    assert perturbations.noise(tensor, None, width=0.3, per="image").numpy() == pytest.approx(
        z * (1 + (0.6 * n - 0.3)), rel=1e-5, abs=1e-6
    )


def test_ccts_drop_of_the_most_active_positions():
    z, tensor = maps()
    (u,) = draws((5, 1, 1, 1))
    attention = z.mean(1)
    keep = attention < (0.5 + 0.4 * u[:, 0]) * attention.max((1, 2), keepdims=True)
    assert 5 <= (~keep).sum() < keep.size / 2
    assert perturbations.drop(tensor, None, low=0.5, high=0.9, per="image").numpy() == pytest.approx(
        z * keep[:, None], rel=1e-5
    )


def test_ccts_dropout_of_channels():
    z, tensor = maps()
    (u,) = draws((5, 4, 1, 1))
    assert 0 < (u < 0.4).sum() < u.size
    found = perturbations.drop_channels(tensor, None, probability=0.4).numpy()
    assert found == pytest.approx(np.where(u < 0.4, 0, z / 0.6), rel=1e-5)


def test_ccts_cutout():
    z, tensor = maps()
    top, left = draws((5, 1, 1, 1), (5, 1, 1, 1))
    expected = z.copy()
    for i in range(5):  # .4 of 6 by 8 is 2 by 3, so 5 rows and 6 columns to start from
        row, column = int(top[i].item() * 5), int(left[i].item() * 6)
        expected[i, :, row : row + 2, column : column + 3] = 0
    assert perturbations.cutout(tensor, None, side=0.4).numpy() == pytest.approx(expected, rel=1e-6)
    assert (perturbations.cutout(tensor, None, side=0.01) == 0).sum() == 5 * 4, "at least one position"


def test_ccts_cutout_reaches_every_position():
    z = torch.ones(400, 1, 4, 4)
    cut = perturbations.cutout(z, None, side=0.5) == 0
    assert (cut.sum((1, 2, 3)) == 4).all() and cut.any(0).all()


def test_ccts_adversarial_features():
    z, tensor = maps()
    weights = rng.normal(size=(3, 4))
    torch.manual_seed(4)
    d = torch.randn(z.shape).double().numpy()
    d /= np.sqrt((d**2).sum((1, 2, 3), keepdims=True))
    p = softmax(z.mean((2, 3)) @ weights.T)
    change = slope(lambda r: kl(p, softmax((z + 0.5 * d + r).mean((2, 3)) @ weights.T)).sum(), np.zeros_like(z))
    r = 2 * change / np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
    head, found = linear(weights), []
    for enabled in (False, True):
        torch.manual_seed(4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(perturbations.adversarial(tensor, head, xi=0.5, epsilon=2.0))
    assert found[0].detach().numpy() == pytest.approx(z + r, rel=1e-3, abs=1e-4)
    assert torch.equal(*found)
    raised = softmax_kl(head(found[0].mean((2, 3))), torch.tensor(np.log(p)))
    assert (raised > 1e-3).all()


def cross_consistency(student, **changes):
    keys = {
        "perturbations": ["noise", "drop", "cutout", "noise"],
        "draw_per": "image",
        "noise_width": 0.3,
        "drop_low": 0.7,
        "drop_high": 0.9,
        "dropout": 0.5,
        "cutout_side": 0.4,
        "vat_xi": 0.1,
        "vat_epsilon": 2.0,
        "consistency_weight": 7.0,
        "consistency_ramp": ramp(),
    }
    return CCT(student=student, num_classes=3, **(keys | changes))


def test_ccts_loss_and_gradient_equal_their_closed_forms():
    weights, top = rng.normal(size=(4, 2)), rng.normal(size=(3, 4))
    x, u = (rng.normal(size=(n, 2, 5, 5)) for n in (4, 6))
    one = cross_consistency(Tiny(weights, top))
    heads = [(h.weight.detach().double().numpy(), h.bias.detach().double().numpy()) for h in one.heads]
    n1, gamma, row, column, n2 = draws((6, 4, 5, 5), (6, 1, 1, 1), (6, 1, 1, 1), (6, 1, 1, 1), (6, 4, 5, 5))
    z = feature_map(weights, u)
    attention = z.mean(1, keepdims=True)
    place = np.arange(5)
    rows, columns = ((p >= s) & (p < s + 2) for p, s in ((place[:, None], (row * 4) // 1), (place, (column * 4) // 1)))
    factors = [
        0.7 + 0.6 * n1,
        attention < (0.7 + 0.2 * gamma) * attention.max((2, 3), keepdims=True),
        ~(rows & columns),
        0.7 + 0.6 * n2,
    ]
    target = softmax(z.mean((2, 3)) @ top.T)

    def loss(w, v):
        z = feature_map(w, u)
        terms = [
            ((softmax((z * f).mean((2, 3)) @ a.T + b) - target) ** 2).mean()
            for f, (a, b) in zip(factors, heads, strict=True)
        ]
        return cross_entropy(feature_map(w, x).mean((2, 3)) @ v.T) + 7 * RAMP * np.mean(terms)

    output = one.training_step(*given([x], [u]), STEP)
    assert output.loss.item() == pytest.approx(loss(weights, top), rel=1e-5)
    output.loss.backward()
    found = one.student.conv.weight.grad[:, :, 0, 0].numpy()
    assert found == pytest.approx(slope(lambda w: loss(w, top), weights), rel=1e-3, abs=1e-5)
    found = one.student.classifier.weight.grad.numpy()
    assert found == pytest.approx(slope(lambda v: loss(weights, v), top), rel=1e-3, abs=1e-5)
    assert all(p.grad.any() for p in one.heads.parameters())
    assert list(one.eval_models()) == ["student"] and one.eval_models()["student"] is one.student


def test_ccts_bad_range_is_said():
    with pytest.raises(UserError, match="must be at most method.drop_high=0.9"):
        cross_consistency(Tiny(np.zeros((4, 2)), np.zeros((3, 4))), drop_low=0.95)


def dual(student, on_labeled=True, distance="mse"):
    return MeanTeacherDual(
        student=student,
        num_classes=3,
        num_images=20,
        teacher=Teacher(decay=0.9, warmup=False, bn="own", mode="train"),
        consistency=distance,
        consistency_weight=7.0,
        consistency_ramp=ramp(),
        consistency_on_labeled=on_labeled,
        student_view="weak",
        weighting=None,
        logit_distance_weight=0.2,
    )


@pytest.mark.parametrize("on_labeled", [True, False])
@pytest.mark.parametrize("distance", ["mse", "kl"])
def test_dual_mean_teachers_loss_and_gradient_equal_their_closed_forms(on_labeled, distance):
    weights, top, old = rng.normal(size=(4, 2)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    x, x2, u, u2 = (rng.normal(size=(n, 2, 5, 5)) for n in (4, 4, 6, 6))
    one = dual(Tiny(weights, top), on_labeled, distance)
    one.teacher.model.network.classifier.weight.data = f32(old)[0]
    second, bias = (p.detach().double().numpy() for p in one.student.second.parameters())
    seen, seen2 = (np.concatenate([x, u]), np.concatenate([x2, u2])) if on_labeled else (u, u2)
    q = softmax(feature_map(weights, seen2).mean((2, 3)) @ old.T)

    def loss(v, s):
        z, everything = (feature_map(weights, images).mean((2, 3)) for images in (seen, np.concatenate([x, u])))
        p = softmax(z @ s.T + bias)
        d = ((p - q) ** 2).mean() if distance == "mse" else kl(q, p).mean()
        apart = ((everything @ v.T - everything @ s.T - bias) ** 2).mean()
        return cross_entropy(feature_map(weights, x).mean((2, 3)) @ v.T) + 7 * RAMP * d + 0.2 * apart

    output = one.training_step(*given([x, x2] if on_labeled else [x], [u, u2]), STEP)
    assert output.loss.item() == pytest.approx(loss(top, second), rel=1e-5)
    output.loss.backward()
    found = one.student.network.classifier.weight.grad.numpy(), one.student.second.weight.grad.numpy()
    assert found[0] == pytest.approx(slope(lambda v: loss(v, second), top), rel=1e-3, abs=1e-5)
    assert found[1] == pytest.approx(slope(lambda s: loss(top, s), second), rel=1e-3, abs=1e-5)


def test_dual_mean_teacher_averages_both_heads_and_evaluates_the_class_logits():
    one = dual(Tiny(rng.normal(size=(4, 2)), rng.normal(size=(3, 4))))
    before = {name: value.clone() for name, value in one.teacher.model.state_dict().items()}
    with torch.no_grad():
        for p in one.student.parameters():
            p.add_(1.0)
    one.after_step(STEP)
    after = one.teacher.model.state_dict()
    assert {"second.weight", "network.classifier.weight"} <= set(after)
    assert all(torch.allclose(value, before[name] + 0.1, atol=1e-6) for name, value in after.items())
    images = torch.randn(2, 2, 5, 5)
    for model in one.eval_models().values():
        assert torch.equal(model(images), model.head(model.features(images)))
    assert len(set(map(id, one.parameters()))) == 2 * 4 and len(one.state_dict()) == 2 * 4

"""The contract that every method in conf/method keeps, and Mean Teacher's loss and teacher against closed forms."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import softmax
from conftest import options, parsed
from small_problems import STEP
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import adamatch, crmatch, regmixmatch, remixmatch
from meanteacher.methods.common import mixup
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.weighting import FixedThreshold
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.optim.optimizers import build_optimizer
from meanteacher.optim.schedules import Constant
from meanteacher.runs.build import build, build_method

METHODS = options("method")
every_method = pytest.mark.parametrize("name", METHODS)


def method(name, blobs):
    torch.manual_seed(0)
    return build_method(parsed(f"method={name}", "model=wrn_10_1", "steps=100"), blobs).train()


def batches(method, blobs, labeled=8, unlabeled=12, seed=0):
    """Random views of the asked-for numbers, with images of the data set's shape."""
    generator = torch.Generator().manual_seed(seed)

    def views(names, n):
        return tuple(torch.randn(n, 3, 8, 8, generator=generator) for _ in names)

    target = torch.arange(labeled) % len(blobs.classes)
    unlabeled = unlabeled if method.views.unlabeled else 0
    return (
        Labeled(torch.arange(labeled), views(method.views.labeled, labeled), target),
        Unlabeled(torch.arange(unlabeled) + 50, views(method.views.unlabeled, unlabeled)),
    )


def gradient(method, labeled, unlabeled):
    """The student's whole gradient after one backward pass as a vector; running statistics are left as they were."""
    one = copy.deepcopy(method)
    torch.manual_seed(0)
    one.training_step(labeled, unlabeled, STEP).loss.backward()
    return torch.cat([p.grad.flatten() for p in one.student.parameters() if p.grad is not None]), one


def train(method, blobs, steps):
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for step in range(steps):
        now = torch.tensor(float(step))
        torch.manual_seed(step)
        method.training_step(*batches(method, blobs, seed=step), now).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(now)
    return method


def apart(method):
    """A method as after some steps: its teacher differs from its student, and its predictions are confident."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(0.05 * torch.randn_like(p))
        method.eval_models()["student"].classifier.weight.mul_(5)
    return method


@every_method
def test_changing_the_unlabeled_images_changes_the_students_gradient(name, blobs):
    one = apart(train(method(name, blobs), blobs, 1))
    labeled, unlabeled = batches(one, blobs)
    before, _ = gradient(one, labeled, unlabeled)
    if not one.views.unlabeled:
        assert name == "supervised" and before.abs().sum() > 0
        return
    # in evaluation mode no batch statistics are shared, so only the unlabeled loss can carry the change
    for module in one.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before, _ = gradient(one, labeled, unlabeled)
    for view in range(len(one.views.unlabeled)):
        changed = list(unlabeled.views)
        changed[view] = changed[view].flip(-1) + 0.5
        after, _ = gradient(one, labeled, Unlabeled(unlabeled.index, tuple(changed)))
        assert (after - before).norm() > 1e-4 * before.norm(), f"view {view} is not used"


@every_method
def test_only_the_student_gets_a_gradient(name, blobs):
    one = apart(method(name, blobs))
    _, after = gradient(one, *batches(one, blobs))
    assert all(p.grad is not None for p in after.student.parameters())
    for model, network in after.eval_models().items():
        assert model == "student" or all(p.grad is None and not p.requires_grad for p in network.parameters())


@every_method
def test_state_survives_saving_and_loading_bit_by_bit(name, blobs, tmp_path):
    one = train(method(name, blobs), blobs, 5)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two = method(name, blobs)
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for model in (one, two):
        train(model, blobs, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def first_for_all(draw):
    def drawn(*args, **keys):
        found = draw(*args, **keys)
        return found[:1].expand_as(found)

    return drawn


@pytest.fixture
def drawn_by_content(monkeypatch):
    """Random draws for each place of a batch (pairs, quarter turns) follow from the images there instead."""

    def order(batch):
        return batch.flatten(1).sum(1).argsort()

    monkeypatch.setattr(mixup, "draw_partners", lambda batch: order(batch).roll(-1)[order(batch).argsort()])
    monkeypatch.setattr(mixup, "draw_beta", lambda alpha, count, device: torch.full((count,), 0.7))
    for name in ("rand", "randn_like"):  # perturbations: the first image's, for all
        monkeypatch.setattr(torch, name, first_for_all(getattr(torch, name)))
    for module in (remixmatch, crmatch):
        monkeypatch.setattr(module, "draw_quarter_turns", lambda images: order(images).argsort() % 4)
    monkeypatch.setattr(adamatch, "draw_fractions", lambda logits: torch.full_like(logits, 0.3))
    monkeypatch.setattr(regmixmatch, "draw_scores", lambda images, pool: pool.flatten(1).sum(1).expand(len(images), -1))


@every_method
def test_the_place_in_the_batch_does_not_matter(name, blobs, drawn_by_content):
    one = apart(method(name, blobs))
    labeled, unlabeled = batches(one, blobs)
    order = torch.randperm(len(labeled.target)), torch.randperm(len(unlabeled.index))
    shuffled = (
        Labeled(labeled.index[order[0]], tuple(v[order[0]] for v in labeled.views), labeled.target[order[0]]),
        Unlabeled(unlabeled.index[order[1]], tuple(v[order[1]] for v in unlabeled.views)),
    )
    assert torch.allclose(gradient(one, labeled, unlabeled)[0], gradient(one, *shuffled)[0], rtol=1e-3, atol=1e-5)


def keep_nothing(method):
    """Every unlabeled image gets the weight 0, in a method that can give it."""
    if getattr(method, "weighting", None):
        method.weighting.forward = lambda probabilities, index: torch.zeros(len(index))
    elif hasattr(method, "threshold"):
        method.threshold = 1e3
    elif hasattr(method, "gamma"):
        method.gamma, method.factor, method.minimum = 1.0, -1.0, -1e3
    return method


@every_method
def test_a_step_that_keeps_no_unlabeled_image_has_no_such_loss_and_is_finite(name, blobs):
    one = keep_nothing(apart(method(name, blobs)))
    labeled, unlabeled = batches(one, blobs)
    output = one.training_step(labeled, unlabeled, STEP)
    masks = [output.metrics[key] for key in ("kept", "visited") if key in output.metrics]
    assert not any(masks), "the metric `kept` (or `visited`) is 0: if this method has another way to mask, add it above"
    assert not masks or output.metrics["consistency"] == 0
    output.loss.backward()
    assert output.loss.isfinite() and all(p.grad.isfinite().all() for p in one.parameters() if p.grad is not None)
    assert all(value.isfinite().all() for value in one.state_dict().values())


@every_method
def test_bfloat16_agrees_with_float32(name, blobs):
    one = apart(method(name, blobs))
    labeled, unlabeled = batches(one, blobs)
    torch.manual_seed(0)
    full = copy.deepcopy(one).training_step(labeled, unlabeled, STEP).loss
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = copy.deepcopy(one).training_step(labeled, unlabeled, STEP).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.05)


@every_method
def test_metrics_are_scalars_and_the_deployed_model_comes_last(name, blobs):
    one = method(name, blobs)
    output = one.training_step(*batches(one, blobs), STEP)
    assert output.loss.shape == () and output.loss.requires_grad
    assert all(value.shape == () for value in output.metrics.values())
    models = list(one.eval_models())
    assert models[0] == "student" and models[-1] in ("student", "teacher")


@every_method
def test_frozen_features_stay_as_they_are_and_the_rest_learns(name, blobs, tmp_path):
    timm = pytest.importorskip("timm")
    weights = timm.create_model("test_resnet", num_classes=4).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    probe = ("model=timm", "model.name=test_resnet", f"model.weights={tmp_path}/weights.pth", "model.train=probe")
    one = build_method(parsed(f"method={name}", *probe, "steps=100"), blobs).train()
    one = train(one, blobs, 2)
    for network in one.eval_models().values():
        state = {key.removeprefix("network."): value for key, value in network.state_dict().items()}
        changed = {key for key, value in state.items() if not torch.equal(value, weights[key])}
        assert changed == {"fc.weight", "fc.bias"}


def test_unlabeled_images_have_no_target_field():
    assert set(Unlabeled.__dataclass_fields__) == {"index", "views"}


@pytest.mark.parametrize("on_labeled", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.6])
@pytest.mark.parametrize(("distance", "passes"), [("mse", "together"), ("mse", "separate"), ("kl", "together")])
def test_mean_teacher_loss_equals_its_closed_form(on_labeled, threshold, distance, passes):
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 3, 5))
    x, x2, u, u2 = (rng.normal(size=(n, 5)) for n in (4, 4, 6, 6))
    target = np.array([0, 1, 2, 0])
    one = MeanTeacher(
        student=nn.Linear(5, 3, bias=False),
        num_classes=3,
        num_images=20,
        teacher=Teacher(decay=0.9, warmup=False, bn="own", mode="train"),
        consistency=distance,
        consistency_weight=7.0,
        consistency_ramp=Constant(steps=100, warmup=0.6, warmup_shape="sigmoid"),
        consistency_on_labeled=on_labeled,
        student_view="strong",
        labeled_view="strong",
        weighting=threshold and FixedThreshold(threshold=threshold),
        passes=passes,
    )
    assert one.views == (("strong", "weak") if on_labeled else ("strong",), ("strong", "weak"))
    one.student.weight.data = torch.tensor(student, dtype=torch.float32)
    one.teacher.model.weight.data = torch.tensor(teacher, dtype=torch.float32)

    def f32(*arrays):
        return tuple(torch.tensor(a, dtype=torch.float32) for a in arrays)

    views = f32(x, x2) if on_labeled else f32(x)
    output = one.training_step(
        Labeled(torch.arange(4), views, torch.tensor(target)), Unlabeled(torch.arange(6), f32(u, u2)), STEP
    )
    ce = -np.log(softmax(x @ student.T)[np.arange(4), target]).mean()
    seen, seen2 = (np.concatenate([x, u]), np.concatenate([x2, u2])) if on_labeled else (u, u2)
    p, q = softmax(seen @ student.T), softmax(seen2 @ teacher.T)
    d = ((p - q) ** 2).mean(1) if distance == "mse" else (q * np.log(q / p)).sum(1)
    confident = q.max(1) >= (threshold or 0)
    assert threshold is None or 0 < confident.sum() < len(q)
    d = (confident * d).mean()
    assert output.metrics["supervised"].item() == pytest.approx(ce, rel=1e-5)
    assert output.metrics["consistency"].item() == pytest.approx(d, rel=1e-4)
    assert output.loss.item() == pytest.approx(ce + 7 * np.exp(-5 * (1 - 0.5) ** 2) * d, rel=1e-5)


def test_mean_teachers_teacher_follows_after_the_step(blobs):
    one = apart(method("mean_teacher", blobs))
    old = one.teacher.model.classifier.weight.clone()
    one.after_step(torch.tensor(0.0))
    assert torch.allclose(one.teacher.model.classifier.weight, (old + one.student.classifier.weight) / 2)


@pytest.mark.parametrize(("mode", "training"), [("train", True), ("eval", False)])
def test_teacher_mode_is_kept_when_training_goes_on(blobs, mode, training):
    changes = ["method.teacher.mode=" + mode, "method.teacher.bn=average"]
    one = build_method(parsed("model=wrn_10_1", *changes), blobs)
    assert one.train().teacher.model.training == training and not one.eval().teacher.model.training


def test_statistics_of_its_own_need_a_teacher_in_training_mode(blobs):
    with pytest.raises(UserError, match="teacher.bn=own"):
        build_method(parsed("method.teacher.mode=eval", "model=wrn_10_1"), blobs)


def test_optimizers_leave_the_teacher_and_the_norms_alone(blobs):
    one = method("mean_teacher", blobs)
    for name in options("optimizer"):
        create = build(parsed(f"optimizer={name}").optimizer.node)
        optimizer = build_optimizer(create, one, lr=0.1, decay_norm_and_bias=False)
        decayed, rest = optimizer.param_groups
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in one.student.parameters()}
        assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in rest["params"])
        assert rest["weight_decay"] == 0
        everything = build_optimizer(create, one, lr=0.1, decay_norm_and_bias=True)
        assert len(everything.param_groups) == 1

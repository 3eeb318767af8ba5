"""VAT: its loss and its adversarial direction against NumPy, and what its passes leave unchanged."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, kl, slope, softmax, unit
from conftest import parsed
from small_problems import RAMP, STEP, TARGET, linear, ramp, step_images

from meanteacher.methods.common.adversarial import adversarial_direction
from meanteacher.methods.vat import VAT
from meanteacher.runs.build import build_method

rng = np.random.default_rng(0)


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


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_vats_loss_and_gradient_equal_their_closed_forms(entropy_weight):
    weights, x, u = (rng.normal(size=shape) for shape in ((3, 5), (4, 5), (6, 5)))
    method = vat(linear(weights), entropy_weight=entropy_weight)
    torch.manual_seed(3)
    d = unit(torch.randn(6, 5).double().numpy())
    for _ in range(2):  # the gradient of KL(p ‖ q) with respect to the input is (q − p)W
        d = unit((softmax((u + 0.01 * d) @ weights.T) - softmax(u @ weights.T)) @ weights)
    p0 = softmax(u @ weights.T)

    def loss(w):
        p, q = softmax(u @ w.T), softmax((u + 1.5 * d) @ w.T)
        return ce(x @ w.T, TARGET).mean() + 7 * RAMP * kl(p0, q).mean() - entropy_weight * (p * np.log(p)).sum(1).mean()

    torch.manual_seed(3)
    output = method.training_step(*step_images([x], [u]), STEP)
    assert output.loss.item() == pytest.approx(loss(weights), rel=1e-4)
    output.loss.backward()
    assert method.student.weight.grad.numpy() == pytest.approx(slope(loss, weights), rel=1e-2, abs=1e-4)


def test_vats_direction_is_the_dominant_eigenvector_of_the_kls_hessian():
    weights, u = rng.normal(size=(3, 6)), rng.normal(size=(4, 6))
    torch.manual_seed(0)
    directions = adversarial_direction(linear(weights), f32(u), xi=0.01, iterations=20).numpy()
    for image, d in zip(u, directions, strict=True):
        p = softmax(image[None] @ weights.T)

        def slope_at(r, image=image, p=p):
            return slope(lambda r: kl(p, softmax((image + r)[None] @ weights.T))[0], r, h=1e-4)

        hessian = np.stack([(slope_at(h) - slope_at(-h)) / 2e-3 for h in 1e-3 * np.eye(6)])
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        assert values[-1] > 1.2 * values[-2], "the example has a dominant direction"
        assert abs(d @ vectors[:, -1]) > 0.99 and np.linalg.norm(d) == pytest.approx(1, rel=1e-5)


def small_vat(*overrides):
    """VAT as configured, with a small student after a change of its weights and of its running statistics."""

    class Data:
        classes = range(4)
        train = type("Part", (), {"pixels": np.zeros((200, 3, 8, 8)), "targets": np.zeros(200)})

    torch.manual_seed(0)
    method = build_method(parsed("method=vat", "model=wrn_10_1", "model.bn_momentum=0.1", *overrides), Data).train()
    with torch.no_grad():
        method.student.classifier.weight.mul_(3)
        method.student(torch.randn(16, 3, 8, 8))
    return method


def test_vats_direction_does_not_depend_on_autocast():
    method, images, directions = small_vat(), torch.randn(8, 3, 8, 8), []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            directions.append(adversarial_direction(method.student, images, xi=0.01, iterations=2))
    assert torch.equal(*directions) and directions[0].dtype == torch.float32


def test_vats_direction_is_that_of_float64():
    method, images, directions = small_vat(), torch.randn(8, 3, 8, 8), []
    noise = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: noise.to(like.dtype))
        patch.setattr(torch.Tensor, "float", lambda self: self)
        for dtype, xi in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
            student = copy.deepcopy(method.student).to(dtype)
            directions.append(adversarial_direction(student, images.to(dtype), xi=xi, iterations=1).double().flatten(1))
    assert (directions[0] * directions[1]).sum(1).min() > 0.99


def test_vats_direction_leaves_weights_gradients_and_statistics_alone():
    method, images = small_vat("model.dropout=0.5"), torch.randn(8, 3, 8, 8)
    before = {name: value.clone() for name, value in method.student.state_dict().items()}
    adversarial_direction(method.student, images, xi=0.01, iterations=2)
    assert all(p.grad is None for p in method.student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.student.state_dict().items())
    kept = [torch.full_like(p, 3.0) for p in method.student.parameters()]
    for p, value in zip(method.student.parameters(), kept, strict=True):
        p.grad = value.clone()
    assert not adversarial_direction(method.student, images, xi=0.01, iterations=1).requires_grad
    assert all(torch.equal(p.grad, value) for p, value in zip(method.student.parameters(), kept, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_vats_statistics_are_those_of_the_clean_passes(compiled):
    method = small_vat()
    labeled, unlabeled = step_images([rng.normal(size=(4, 3, 8, 8))], [rng.normal(size=(6, 3, 8, 8))])
    other = copy.deepcopy(method.student)
    other(labeled.views[0])
    other(unlabeled.views[0])
    step = torch.compile(method.training_step, fullgraph=False, backend="eager") if compiled else method.training_step
    step(labeled, unlabeled, STEP)
    assert all(torch.equal(a, b) for a, b in zip(method.student.buffers(), other.buffers(), strict=True))
    assert all(m.training and getattr(m, "track_running_stats", True) for m in method.student.modules())


def test_vat_has_no_dropout_on_unlabeled_images():
    images, metrics = step_images([rng.normal(size=(4, 3, 8, 8))], [rng.normal(size=(6, 3, 8, 8))]), []
    noise = torch.randn(6, 3, 8, 8)
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        method = small_vat(f"model.dropout={dropout}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda like: noise)
            metrics.append(method.training_step(*images, STEP).metrics)
        assert method.student.blocks[0].body[3].training
    assert metrics[0]["consistency"] == metrics[1]["consistency"]
    assert metrics[0]["supervised"] != metrics[1]["supervised"]

"""CCT: each perturbation of its features, and its loss, against NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, kl, slope, softmax
from small_problems import RAMP, STEP, TARGET, TinyNetwork, feature_map, linear, ramp, step_images

from meanteacher.config.errors import UserError
from meanteacher.methods.cct import CCT
from meanteacher.methods.common import perturbations
from meanteacher.methods.common.losses import softmax_kl

rng = np.random.default_rng(0)


def maps():
    """Random feature maps, [5, 4, 6, 8], as an array and as a float32 tensor."""
    z = rng.normal(size=(5, 4, 6, 8))
    return z, f32(z)


def draws(*shapes, seed=4):
    """What torch.rand returns for these shapes after seeding. Seeds again, so that the next draws are the same."""
    torch.manual_seed(seed)
    numbers = [torch.rand(shape).double().numpy() for shape in shapes]
    torch.manual_seed(seed)
    return numbers


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
    dropped = perturbations.drop_channels(tensor, None, probability=0.4).numpy()
    assert dropped == pytest.approx(np.where(u < 0.4, 0, z / 0.6), rel=1e-5)


def test_ccts_cutout():
    z, tensor = maps()
    top, left = draws((5, 1, 1, 1), (5, 1, 1, 1))
    expected = z.copy()
    for i in range(5):  # 0.4 of 6 × 8 is 2 × 3, which leaves 5 rows and 6 columns to start from
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
    head, perturbed = linear(weights), []
    for enabled in (False, True):
        torch.manual_seed(4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            perturbed.append(perturbations.adversarial(tensor, head, xi=0.5, epsilon=2.0))
    assert perturbed[0].detach().numpy() == pytest.approx(z + r, rel=1e-3, abs=1e-4)
    assert torch.equal(*perturbed)
    divergence = softmax_kl(head(perturbed[0].mean((2, 3))), torch.tensor(np.log(p)))
    assert (divergence > 1e-3).all()


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
    method = cross_consistency(TinyNetwork(weights, top))
    heads = [(h.weight.detach().double().numpy(), h.bias.detach().double().numpy()) for h in method.heads]
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
        return ce(feature_map(w, x).mean((2, 3)) @ v.T, TARGET).mean() + 7 * RAMP * np.mean(terms)

    output = method.training_step(*step_images([x], [u]), STEP)
    assert output.loss.item() == pytest.approx(loss(weights, top), rel=1e-5)
    output.loss.backward()
    gradient = method.student.conv.weight.grad[:, :, 0, 0].numpy()
    assert gradient == pytest.approx(slope(lambda w: loss(w, top), weights), rel=1e-3, abs=1e-5)
    gradient = method.student.classifier.weight.grad.numpy()
    assert gradient == pytest.approx(slope(lambda v: loss(weights, v), top), rel=1e-3, abs=1e-5)
    assert all(p.grad.any() for p in method.heads.parameters())
    assert list(method.eval_models()) == ["student"] and method.eval_models()["student"] is method.student


def test_ccts_bad_range_is_said():
    with pytest.raises(UserError, match="must be at most method.drop_high=0.9"):
        cross_consistency(TinyNetwork(np.zeros((4, 2)), np.zeros((3, 4))), drop_low=0.95)

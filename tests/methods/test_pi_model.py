"""The Π-model's loss, the MSE with gradients to both arguments, and the entropy, compared with NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, slope, softmax
from small_problems import RAMP, STEP, TARGET, linear, ramp, step_images

from meanteacher.methods.common.losses import entropy, softmax_mse_both
from meanteacher.methods.pi_model import PiModel

rng = np.random.default_rng(0)


def test_losses_equal_their_closed_forms():
    a, b = rng.normal(size=(2, 6, 4))
    p = softmax(a)
    assert entropy(f32(a)).numpy() == pytest.approx(-(p * np.log(p)).sum(1), rel=1e-5)
    x, y = (t.requires_grad_() for t in (f32(a), f32(b)))
    mse = softmax_mse_both(x, y)
    assert mse.detach().numpy() == pytest.approx(((p - softmax(b)) ** 2).mean(1), rel=1e-4)
    mse.sum().backward()
    assert x.grad.any() and y.grad.any() and torch.isfinite(entropy(torch.tensor([[1e4, 0.0]]))).all()


@pytest.mark.parametrize("on_labeled", [True, False])
@pytest.mark.parametrize(("gradient", "passes"), [("both", "together"), ("one", "together"), ("one", "separate")])
def test_pi_models_loss_and_gradient_equal_their_closed_forms(gradient, passes, on_labeled):
    weights = rng.normal(size=(3, 5))
    x, x2, u, u2 = (rng.normal(size=(n, 5)) for n in (4, 4, 6, 6))
    method = PiModel(
        student=linear(weights),
        gradient=gradient,
        consistency_weight=7.0,
        consistency_ramp=ramp(),
        consistency_on_labeled=on_labeled,
        passes=passes,
    )
    output = method.training_step(*step_images([x, x2] if on_labeled else [x], [u, u2]), STEP)
    seen, seen2 = (np.concatenate([x, u]), np.concatenate([x2, u2])) if on_labeled else (u, u2)

    def loss(w, second):
        return ce(x @ w.T, TARGET).mean() + 7 * RAMP * ((softmax(seen @ w.T) - softmax(seen2 @ second.T)) ** 2).mean()

    assert output.loss.item() == pytest.approx(loss(weights, weights), rel=1e-5)
    output.loss.backward()
    expected = slope(lambda w: loss(w, w if gradient == "both" else weights), weights)
    assert method.student.weight.grad.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)

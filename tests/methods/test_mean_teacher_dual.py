"""Mean Teacher with two outputs: its loss against NumPy, its teacher, and the logits that are evaluated."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, kl, slope, softmax
from small_problems import RAMP, STEP, TARGET, TinyNetwork, feature_map, ramp, step_images

from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.mean_teacher_dual import MeanTeacherDual

rng = np.random.default_rng(0)


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
        labeled_view="weak",
        weighting=None,
        logit_distance_weight=0.2,
    )


@pytest.mark.parametrize("on_labeled", [True, False])
@pytest.mark.parametrize("distance", ["mse", "kl"])
def test_dual_mean_teachers_loss_and_gradient_equal_their_closed_forms(on_labeled, distance):
    weights, top, old = rng.normal(size=(4, 2)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    x, x2, u, u2 = (rng.normal(size=(n, 2, 5, 5)) for n in (4, 4, 6, 6))
    method = dual(TinyNetwork(weights, top), on_labeled, distance)
    method.teacher.model.network.classifier.weight.data = f32(old)
    second, bias = (p.detach().double().numpy() for p in method.student.second.parameters())
    seen, seen2 = (np.concatenate([x, u]), np.concatenate([x2, u2])) if on_labeled else (u, u2)
    q = softmax(feature_map(weights, seen2).mean((2, 3)) @ old.T)

    def loss(v, s):
        z, everything = (feature_map(weights, images).mean((2, 3)) for images in (seen, np.concatenate([x, u])))
        p = softmax(z @ s.T + bias)
        d = ((p - q) ** 2).mean() if distance == "mse" else kl(q, p).mean()
        distance_of_logits = ((everything @ v.T - everything @ s.T - bias) ** 2).mean()
        return ce(feature_map(weights, x).mean((2, 3)) @ v.T, TARGET).mean() + 7 * RAMP * d + 0.2 * distance_of_logits

    output = method.training_step(*step_images([x, x2] if on_labeled else [x], [u, u2]), STEP)
    assert output.loss.item() == pytest.approx(loss(top, second), rel=1e-5)
    output.loss.backward()
    gradients = method.student.network.classifier.weight.grad.numpy(), method.student.second.weight.grad.numpy()
    assert gradients[0] == pytest.approx(slope(lambda v: loss(v, second), top), rel=1e-3, abs=1e-5)
    assert gradients[1] == pytest.approx(slope(lambda s: loss(top, s), second), rel=1e-3, abs=1e-5)


def test_dual_mean_teacher_averages_both_heads_and_evaluates_the_class_logits():
    method = dual(TinyNetwork(rng.normal(size=(4, 2)), rng.normal(size=(3, 4))))
    before = {name: value.clone() for name, value in method.teacher.model.state_dict().items()}
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    method.after_step(STEP)
    after = method.teacher.model.state_dict()
    assert {"second.weight", "network.classifier.weight"} <= set(after)
    assert all(torch.allclose(value, before[name] + 0.1, atol=1e-6) for name, value in after.items())
    images = torch.randn(2, 2, 5, 5)
    for model in method.eval_models().values():
        assert torch.equal(model(images), model.head(model.features(images)))
    assert len(set(map(id, method.parameters()))) == 2 * 4 and len(method.state_dict()) == 2 * 4

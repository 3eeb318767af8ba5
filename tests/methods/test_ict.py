"""ICT's loss against NumPy with draws that the test chooses, and its teacher."""

import numpy as np
import pytest
import torch
from closed_forms import f32, slope, softmax
from conftest import parsed
from mixing_by_hand import LINEAR, ONE_HOT, STEP, cross_entropy, give_draws, mixed
from small_problems import step_images
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.ict import ICT
from meanteacher.runs.build import build_method


@pytest.mark.parametrize("mix_labeled", [True, False])
@pytest.mark.parametrize("per", ["image", "step"])
def test_ict_loss_equals_its_closed_form(monkeypatch, per, mix_labeled):
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 3, 5))
    x, u = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    method = ICT(
        student=nn.Linear(5, 3, bias=False),
        teacher=Teacher(decay=0.9, warmup=False, bn="own", mode="train"),
        alpha=0.6,
        weight_per=per,
        mix_labeled=mix_labeled,
        consistency_weight=7.0,
        consistency_ramp=LINEAR,
    )
    method.student.weight.data, method.teacher.model.weight.data = f32(student), f32(teacher)
    pu, px = [5, 3, 0, 2, 1, 4], [2, 0, 1, 3]
    wu, wx = ([0.1, 0.7, 1.0, 0.0, 0.4, 0.8], [0.2, 0.9, 0.6, 0.5]) if per == "image" else ([0.35], [0.2])
    give_draws(monkeypatch, (pu, wu), (px, wx))
    output = method.training_step(*step_images([x], [u]), STEP)
    output.loss.backward()
    q = mixed(softmax(u @ teacher.T), pu, wu)
    ux, xx, y = mixed(u, pu, wu), *((mixed(x, px, wx), mixed(ONE_HOT, px, wx)) if mix_labeled else (x, ONE_HOT))

    def consistency(w):
        return ((softmax(ux @ w.T) - q) ** 2).mean()

    def loss(w):
        return cross_entropy(xx @ w.T, y) + 7 * 0.4 * consistency(w)

    assert output.loss.item() == pytest.approx(loss(student), rel=1e-5)
    assert output.metrics["consistency"].item() == pytest.approx(consistency(student), rel=1e-4)
    np.testing.assert_allclose(method.student.weight.grad, slope(loss, student, h=1e-5), rtol=1e-3, atol=1e-5)
    assert method.teacher.model.weight.grad is None


def test_icts_teacher_is_mean_teachers(blobs):
    method = build_method(parsed("method=ict", "model=wrn_10_1"), blobs).train()
    old = method.teacher.model.classifier.weight.clone()
    with torch.no_grad():
        method.student.classifier.weight.add_(1)
    method.after_step(torch.tensor(0.0))
    assert torch.allclose(method.teacher.model.classifier.weight, old + 0.5)
    assert list(method.eval_models()) == ["student", "teacher"] and method.teacher.model.training
    with pytest.raises(UserError, match="teacher.bn=own"):
        build_method(parsed("method=ict", "method.teacher.mode=eval", "model=wrn_10_1"), blobs)

"""Which forward passes share batch-norm statistics, and which of them update the running statistics."""

import pytest
import torch
from torch import nn

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import Teacher
from meanteacher.methods.common.passes import predict_interleaved, predict_labeled_and_unlabeled
from meanteacher.methods.common.perturbations import drop, noise
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.methods.pi_model import PiModel
from meanteacher.methods.pseudo_label import PseudoLabel
from meanteacher.methods.vat import VAT
from meanteacher.optim.schedules import Constant

RAMP = Constant(steps=100, warmup=0.0, warmup_shape="linear")


class Accept(nn.Module):
    """Weight 1 for all images."""

    def bind(self, **facts):
        return self

    def metrics(self):
        return {}

    def forward(self, probabilities, index):
        return torch.ones(len(index))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(5, momentum=0.5, affine=False), nn.Linear(5, 3))


def methods(passes: str) -> dict:
    """Each method that has a choice of passes."""
    teacher = Teacher(decay=0.9, warmup=False, bn="copy", mode="train")
    shared = {"consistency_weight": 1.0, "consistency_ramp": RAMP}
    on = {"consistency_on_labeled": False, "passes": passes}
    counts = {"num_classes": 3, "num_images": 9}
    return {
        "mean_teacher": MeanTeacher(
            student=network(),
            teacher=teacher,
            consistency="mse",
            student_view="weak",
            labeled_view="weak",
            weighting=None,
            **counts,
            **shared,
            **on,
        ),
        "pi_model": PiModel(student=network(), gradient="one", **shared, **on),
        "pseudo_label": PseudoLabel(
            student=network(),
            **counts,
            weighting=Accept(),
            unlabeled_weight=1.0,
            unlabeled_ramp=RAMP,
            passes=passes,
        ),
        "vat": VAT(
            student=network(),
            epsilon=1.0,
            xi=0.01,
            power_iterations=1,
            entropy_weight=0.1,
            unlabeled_moves_statistics=passes == "together",
            **shared,
        ),
    }


def running_mean(method, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The student's running mean after one step from a running mean of 0."""
    labeled = Labeled(torch.arange(4), (x,), torch.tensor([0, 1, 2, 0]))
    unlabeled = Unlabeled(torch.arange(6), (u,) * len(method.views.unlabeled))
    method.train().training_step(labeled, unlabeled, torch.tensor(0.0)).loss.backward()
    return method.student[0].running_mean


@pytest.mark.parametrize("name", methods("together"))
def test_only_the_labeled_pass_moves_the_running_statistics(name):
    torch.manual_seed(1)
    x, u = torch.randn(4, 5), 3 + torch.randn(6, 5)
    separate = running_mean(methods("separate")[name], x, u)
    torch.testing.assert_close(separate, 0.5 * x.mean(0))
    assert not torch.allclose(running_mean(methods("together")[name], x, u), separate)


def test_separate_passes_are_normalized_on_their_own():
    torch.manual_seed(1)
    model, x, u = network(), torch.randn(4, 5), 3 + torch.randn(6, 5)
    for images, logits in zip((x, u), predict_labeled_and_unlabeled(model, x, u, "separate"), strict=True):
        normalized = (images - images.mean(0)) / (images.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(logits, model[1](normalized))
    together = torch.cat(predict_labeled_and_unlabeled(model, x, u, "together"))
    torch.testing.assert_close(together, model(torch.cat([x, u])))


@pytest.mark.parametrize("per", ["image", "batch"])
def test_feature_noise_and_drop_are_drawn_per_image_or_per_batch(per):
    torch.manual_seed(2)
    z = torch.rand(1, 4, 5, 5).expand(8, -1, -1, -1)
    for perturbed in (noise(z, None, width=0.3, per=per), drop(z, None, low=0.1, high=0.9, per=per)):
        assert (perturbed == perturbed[:1]).all() == (per == "batch")


def test_interleaved_batches_are_normalized_on_their_own_and_the_first_moves_the_statistics():
    torch.manual_seed(3)
    model, images = network(), torch.randn(8, 5) + torch.arange(8)[:, None]
    logits = predict_interleaved(model, images, 3)
    for start in range(3):
        part = images[start::3]
        normalized = (part - part.mean(0)) / (part.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(logits[start::3], model[1](normalized))
    torch.testing.assert_close(model[0].running_mean, 0.5 * images[::3].mean(0))

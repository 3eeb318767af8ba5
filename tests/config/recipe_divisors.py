"""The divisor of each term of a method's loss, measured on a stand-in student whose logits are known."""

import inspect
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from recipe_stand_ins import CLASSES, COUNTS, UNLABELED, Scaled, batches, stand_in
from torch import Tensor

from meanteacher.config.settings import Settings
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import Method
from meanteacher.methods.common.mixup import sharpen


def measure_divisors(settings: Settings) -> dict[str, str]:
    """Which images the mean of each term runs over: its sum over the images, by the closed form, divided by its value.

    Mixing is off, weights of pseudo-labels alternate between 1 and 0, and the adversarial direction is fixed.
    """
    method = stand_in(settings, Scaled)
    if teacher := getattr(method, "teacher", None):
        teacher.model.get_parameter(next(n for n, _ in teacher.model.named_parameters() if n.endswith("scale"))).fill_(
            2
        )
    if hasattr(method, "ensemble"):
        method.ensemble.fill_(1 / CLASSES)
        method.ensemble_weight.fill_(1)
    weights = (torch.arange(UNLABELED) % 2).float()
    if hasattr(method, "weighting"):
        method.weighting.forward = lambda probabilities, index: weights
    labeled, unlabeled = batches(method)
    with ExitStack() as stack:
        module = inspect.getmodule(type(method))
        for name, stub in {
            "mix_batch": lambda images, targets, **options: (images, targets),
            "adversarial_direction": lambda student, images, **options: F.normalize(images.flatten(1)).view_as(images),
        }.items():
            if hasattr(module, name):
                stack.enter_context(patch.object(module, name, stub))
        metrics = method.training_step(labeled, unlabeled, torch.zeros(())).metrics
    sums = closed_forms(method, labeled, unlabeled, weights)
    return {name: COUNTS[round((total.sum() / metrics[name]).item(), 3)] for name, total in sums.items()}


def closed_forms(method: Method, labeled: Labeled, unlabeled: Unlabeled, weights: Tensor) -> dict[str, Tensor]:
    """The terms of each image, [number of images], from the papers' formulas. The logits are channel means."""
    kind = type(method).__name__
    x, u = [v.mean((2, 3)) for v in labeled.views], [v.mean((2, 3)) for v in unlabeled.views]
    p = [z.softmax(1) for z in u]
    both = [torch.cat([a, b]) for a, b in zip(x, u, strict=False)]
    terms = {"supervised": F.cross_entropy(x[0], labeled.target, reduction="none")}
    if kind in ("MeanTeacher", "MeanTeacherDual"):
        first, second = both if method.on_labeled else u
        if kind == "MeanTeacherDual":
            other = method.student.second(first)
            terms["logit_distance"] = (first - other).square().mean(1)
            first = other
        terms["consistency"] = (first.softmax(1) - (2 * second).softmax(1)).square().mean(1)
    elif kind == "PiModel":
        terms["consistency"] = (p[0] - p[1]).square().mean(1)
    elif kind == "TemporalEnsembling":
        terms["consistency"] = (both[0].softmax(1) - 1 / CLASSES).square().mean(1)
    elif kind == "ICT":
        terms["consistency"] = (p[0] - (2 * u[0]).softmax(1)).square().mean(1)
    elif kind == "VAT":
        d = F.normalize(unlabeled.views[0].flatten(1)).view_as(unlabeled.views[0]).mean((2, 3))
        far = (u[0] + method.epsilon * d).log_softmax(1)
        terms["consistency"] = (p[0] * (u[0].log_softmax(1) - far)).sum(1)
        terms["entropy"] = -(p[0] * u[0].log_softmax(1)).sum(1)
    elif kind == "MixMatch":
        q = sharpen((p[0] + p[1]) / 2, method.temperature)
        terms["consistency"] = (torch.cat(p) - torch.cat([q, q])).square().mean(1)
    elif kind == "ReMixMatch":
        mean = p[0].mean(0)
        aligned = p[0] / mean / (p[0] / mean).sum(1, keepdim=True)
        q = sharpen(aligned, method.temperature)
        losses = [-(q * z.log_softmax(1)).sum(1) for z in u]
        terms |= {"mixed": torch.cat(losses), "strong": losses[1]}
    else:
        target = (u[0] / method.temperature).softmax(1) if kind == "UDA" else F.one_hot(u[0].argmax(1), CLASSES)
        terms["consistency"] = weights * -(target * u[-1].log_softmax(1)).sum(1)
    return terms

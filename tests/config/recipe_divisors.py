"""The divisor of each term of a method's loss, measured on a stand-in student whose logits are known."""

import inspect
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from recipe_stand_ins import CLASSES, COUNTS, LABELED, UNLABELED, Scaled, batches, stand_in
from torch import Tensor

from meanteacher.config.settings import Settings
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import Method
from meanteacher.methods.common.memory_method import MemoryMethod
from meanteacher.methods.common.mixup import sharpen
from meanteacher.methods.dash import Dash
from meanteacher.methods.regmixmatch import RegMixMatch

UNSURE = 27
"""The images that RegMixMatch is not sure of."""


STUBS = {
    "mix_batch": lambda images, targets, **options: (images, targets),
    "resize_mix": lambda images, others, scale: (images, torch.ones(len(images))),
    "draw_quarter_turns": lambda images: torch.zeros(len(images), dtype=torch.int64),
    "adversarial_direction": lambda student, images, **options: F.normalize(images.flatten(1)).view_as(images),
}
"""What takes the place of a module's random functions: images are neither mixed nor turned."""


def measure_divisors(settings: Settings) -> dict[str, str]:
    """Which images the mean of each term runs over: its sum over the images, by the closed form, divided by its value.

    Mixing is off, weights of pseudo-labels alternate between 1 and 0, and the adversarial direction is fixed. A bank
    holds the labeled images of the step.
    """
    method = stand_in(settings, Scaled)
    labeled, unlabeled = batches(method)
    prepare(method, unlabeled)
    step = torch.tensor(settings.steps - 1.0)
    with ExitStack() as stack:
        module = inspect.getmodule(type(method))
        for name in STUBS.keys() & vars(module).keys():
            stack.enter_context(patch.object(module, name, STUBS[name]))
        for _ in range(2 if isinstance(method, MemoryMethod) else 1):
            metrics = method.training_step(labeled, unlabeled, step).metrics
            method.after_step(step)
    sums = closed_forms(method, labeled, unlabeled, alternating(UNLABELED))
    return {name: COUNTS[round((total.sum() / metrics[name]).item(), 3)] for name, total in sums.items()}


def alternating(count: int) -> Tensor:
    return (torch.arange(count) % 2).float()


def prepare(method: Method, unlabeled: Unlabeled) -> None:
    """Give the method a state, weights and thresholds for which the terms have closed forms."""
    if teacher := getattr(method, "teacher", None):
        teacher.model.get_parameter(next(n for n, _ in teacher.model.named_parameters() if n.endswith("scale"))).fill_(
            2
        )
    if hasattr(method, "ensemble"):
        method.ensemble.fill_(1 / CLASSES)
        method.ensemble_weight.fill_(1)
    if getattr(method, "weighting", None):
        method.weighting.forward = lambda probabilities, index: alternating(len(index))
        method.weighting.threshold = 0.0  # every image has the divergences of SequenceMatch
    if isinstance(method, Dash):
        method.minimum = 1e9  # every image is kept, with a hard label
    if isinstance(method, RegMixMatch):
        confidence = unlabeled.views[0].mean((2, 3)).softmax(1).amax(1)
        method.mix_threshold = confidence.sort().values[UNSURE].item()


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
    elif isinstance(method, MemoryMethod):
        terms |= memory_forms(method, labeled, unlabeled, weights)
    else:
        terms |= pseudo_label_forms(method, labeled, unlabeled, weights)
    return terms


def pseudo_label_forms(method: Method, labeled: Labeled, unlabeled: Unlabeled, weights: Tensor) -> dict[str, Tensor]:
    """The terms of methods whose consistency term is the cross-entropy of the last strong view and a pseudo-label."""
    kind = type(method).__name__
    x, u = [v.mean((2, 3)) for v in labeled.views], [v.mean((2, 3)) for v in unlabeled.views]
    hard, soft = F.one_hot(u[0].argmax(1), CLASSES), sharpened(u[0], getattr(method, "temperature", 1))
    pseudo = soft if kind in ("UDA", "MetaPseudoLabels") else hard
    terms = {"consistency": (1 if kind == "Dash" else weights) * entropy(pseudo, u[-1])}
    if kind == "DeFixMatch":
        terms["supervised"] = sum(F.cross_entropy(z, labeled.target, reduction="none") for z in x) / 2
        terms["bias"] = alternating(LABELED) * entropy(F.one_hot(x[0].argmax(1), CLASSES), x[1])
    elif kind == "SequenceMatch":
        pairs = [(sharpened(a, method.temperature), b) for a, b in ((u[0], u[1]), (u[1], u[2]), (u[0], u[2]))]
        divergences = [entropy(q, b) - entropy(q, q.log()) for q, b in pairs]
        terms |= {"sequence": sum(divergences), "low_confidence": (1 - weights) * divergences[2]}
    elif kind == "CRMatch":
        scale = method.map_side // unlabeled.views[0].shape[2]
        maps = [v.repeat_interleave(scale, 2).repeat_interleave(scale, 3) for v in unlabeled.views]
        cosine = F.cosine_similarity(*(method.projection(v.flatten(1)) for v in maps))
        terms["distance"] = weights * cosine.clamp(min=0)
        terms["rotation"] = -method.rotation_head(u[0]).log_softmax(1)[:, 0]
    elif kind == "RegMixMatch":
        p, confidence = u[0].softmax(1), u[0].softmax(1).amax(1)
        sure = confidence >= method.mix_threshold
        terms["mixed_high"] = sure * entropy(hard, u[1])
        terms["mixed_low"] = ~sure * confidence**3 * (u[1].softmax(1) - p).square().mean(1)
    elif kind == "MetaPseudoLabels":
        taught = u[1].softmax(1)
        terms |= {"feedback": -taught.amax(1).log(), "student": entropy(taught, u[1])}
    return terms


def memory_forms(method: Method, labeled: Labeled, unlabeled: Unlabeled, weights: Tensor) -> dict[str, Tensor]:
    """The terms of SimMatch, whose bank holds the step's labeled images, and of CoMatch, whose bank is not full."""
    u = [v.mean((2, 3)) for v in unlabeled.views]
    keys, *embeddings = (
        F.normalize(method.student.projection(v.mean((2, 3)))) for v in (labeled.views[0], *unlabeled.views)
    )
    p = u[0].softmax(1)
    p = p / p.mean(0) / (p / p.mean(0)).sum(1, keepdim=True)
    if type(method).__name__ == "CoMatch":
        graph = (p @ p.T).fill_diagonal_(1)
        graph = graph * (graph >= method.graph_threshold)
        between = embeddings[1] @ embeddings[2].T / method.temperature
        contrast = entropy(graph / graph.sum(1, keepdim=True), between)
        return {"consistency": weights * entropy(p, u[1]), "contrast": contrast}
    weak, strong = (z @ keys.T / method.temperature for z in embeddings)
    share = weak.softmax(1) * p[:, labeled.target]
    smooth = (
        method.smoothing * p + (1 - method.smoothing) * weak.softmax(1) @ F.one_hot(labeled.target, CLASSES).float()
    )
    instance = entropy(share / share.sum(1, keepdim=True), strong)
    return {"consistency": weights * entropy(smooth, u[1]), "instance": instance}


def sharpened(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(1)


def entropy(target: Tensor, logits: Tensor) -> Tensor:
    """The cross-entropy of each row, [number of rows]."""
    return -(target * logits.log_softmax(1)).sum(1)

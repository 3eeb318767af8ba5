"""Pseudo-Label (Lee 2013, "Pseudo-Label: the simple and efficient semi-supervised learning method", ICML workshop)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.weighting import Weighting
from meanteacher.optim.schedules import Constant


class PseudoLabel(Method):
    """L = mean CE(student(weak(x)), y) + λ(s) · mean w(p) · CE(z, argmax p), z = student(weak(u)), p = softmax(z)
    without gradient.

    One view is both judge and learner. λ(s) = unlabeled_weight · unlabeled_ramp(s). The second mean runs over all
    unlabeled images. weighting: w, as TorchSSL's a fixed threshold; the paper has none (threshold 0) and gives λ a
    linear rise between two steps. Both kinds of images go through the student in one batch and share its BatchNorm
    statistics; TorchSSL runs the unlabeled ones apart, in a pass that leaves the running statistics alone.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
    ):
        super().__init__()
        self.student, self.weight, self.ramp = student, unlabeled_weight, unlabeled_ramp
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        p = logits[n:].detach().float().softmax(dim=1)
        weight = self.weighting(p, unlabeled.index)
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency = (weight * cross_entropy(logits[n:], p.argmax(dim=1))).mean()
        return StepOutput(
            supervised + self.weight * self.ramp(step) * consistency,
            {"supervised": supervised, "consistency": consistency, "kept": weight.mean()},
        )

"""FreeMatch (Wang et al. 2023, arXiv 2205.07246)."""

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.methods.base import Method
from meanteacher.methods.common.losses import cross_entropy, one_hot
from meanteacher.methods.common.weighting import SelfAdaptiveThreshold

EMPTY = 1e-20
"""A share of images at or below this is none: its bin is left out."""


class FreeMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean w(q) · CE(student(strong(u)), argmax q) + λ_f · fairness.

    q = softmax(student(weak(u))), without gradient; w: see `SelfAdaptiveThreshold`, which the node `weighting` must
    be. λ: unlabeled_weight; λ_f: fairness_weight. All views go through the student in one batch and share its
    BatchNorm statistics.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: SelfAdaptiveThreshold,
        unlabeled_weight: NonNegativeFloat,
        fairness_weight: NonNegativeFloat,
    ):
        super().__init__()
        if not isinstance(weighting, SelfAdaptiveThreshold):
            raise UserError(
                "method.weighting: FreeMatch's fairness needs meanteacher.methods.common.weighting.SelfAdaptiveThreshold"
            )
        self.student, self.weight, self.fairness_weight = student, unlabeled_weight, fairness_weight
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        sizes = [len(labeled.target), *(len(view) for view in unlabeled.views)]
        logits, weak, strong = self.student(torch.cat([labeled.views[0], *unlabeled.views])).split(sizes)
        q = weak.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, q.argmax(dim=1))).mean()
        fair = fairness(strong, weight, self.weighting.classes, self.weighting.histogram)
        return StepOutput(
            supervised + self.weight * consistency + self.fairness_weight * fair,
            {
                "supervised": supervised.detach(),
                "consistency": consistency.detach(),
                "fairness": fair.detach(),
                "kept": weight.mean(),
                "threshold": self.weighting.level.clone(),
            },
        )


def fairness(strong: Tensor, weight: Tensor, classes: Tensor, histogram: Tensor) -> Tensor:
    """Σ_c A_c log B_c, to be minimised: A = norm(p̃ / h̃), B = norm(p̄ / h̄), norm: divided by its sum.

    p̄ and h̄: mean prediction and counts of argmax over the strong views [B, C] of weight 1; p̃ (classes) and h̃
    (histogram): the running ones of the weak views. The gradient goes through p̄ alone: it is (A_c − B_c) / p̄_c, so
    a step lowers the mean prediction of the classes whose images are counted more often than their probability says
    (B below A) and raises the others. A bin without images is left out of B and of the sum; the authors' code adds
    A_c log 1e-12 for it, which has no gradient.
    """
    p = strong.float().softmax(dim=1)
    each = weight.unsqueeze(1)
    counts = (each * one_hot(p.argmax(dim=1), p.shape[1])).mean(dim=0)
    a, b = share(classes, histogram), share((each * p).mean(dim=0), counts)
    return (a * (counts > EMPTY) * b.clamp(min=EMPTY).log()).sum()


def share(mass: Tensor, counts: Tensor) -> Tensor:
    """mass / counts, 0 where there is no count, divided by its sum."""
    ratio = (counts > EMPTY) * mass / counts.clamp(min=EMPTY)
    return ratio / ratio.sum().clamp(min=EMPTY)

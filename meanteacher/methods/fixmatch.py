"""FixMatch (Sohn et al. 2020, arXiv 2001.07685)."""

import torch
from torch import Tensor, nn

from meanteacher.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.losses import cross_entropy
from meanteacher.methods.base import Method
from meanteacher.types import Fraction, NonNegativeFloat


class FixMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean 1[max q ≥ τ] · CE(student(strong(u)), argmax q), q = softmax(student(weak(u))).

    The second mean runs over all unlabeled images, also the masked ones (eq. 4). q carries no gradient. τ: threshold, λ:
    unlabeled_weight. All views go through the student in one batch, so they share its BatchNorm statistics, as in the
    authors' code. The averaged weights that are evaluated, as in the paper, are the trainer's.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(self, *, student: nn.Module, threshold: Fraction, unlabeled_weight: NonNegativeFloat):
        super().__init__()
        self.student, self.threshold, self.weight = student, threshold, unlabeled_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        sizes = [len(labeled.target), *(len(view) for view in unlabeled.views)]
        logits, weak, strong = self.student(torch.cat([labeled.views[0], *unlabeled.views])).split(sizes)
        confidence, pseudo = weak.detach().float().softmax(dim=1).max(dim=1)
        mask = (confidence >= self.threshold).float()
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (mask * cross_entropy(strong, pseudo)).mean()
        loss = supervised + self.weight * consistency
        return StepOutput(
            loss,
            {"supervised": supervised.detach(), "consistency": consistency.detach(), "above_threshold": mask.mean()},
        )

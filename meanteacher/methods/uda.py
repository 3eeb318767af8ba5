"""Unsupervised Data Augmentation, UDA (Xie et al. 2020, arXiv 1904.12848)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.weighting import Weighting

SIGNAL = {
    "none": torch.ones_like,
    "linear": lambda x: x,
    "log": lambda x: 1 - torch.exp(-5 * x),
    "exp": lambda x: torch.exp(5 * (x - 1)),
}
"""The α of training signal annealing as a function of the fraction of the run that is done."""


class UDA(Method):
    """L = Σ k · CE(student(weak(x)), y) / max(Σ k, 1) + λ · mean w(p) · CE(target, student(strong(u))).

    target = softmax(z / T), p = softmax(z), z = student(weak(u)) without gradient; w weighs by the prediction that is
    not sharpened. The second mean runs over all unlabeled images. The paper has cross-entropy with a soft target; its
    code has KL, which differs by the entropy of the target and has the same gradient. T: temperature; λ:
    unlabeled_weight; w: weighting. tsa: training signal annealing, where k = 1[p(y) ≤ η(s)], η = 1 − (1 − α(s/steps))
    (1 − 1/C) with α from `SIGNAL`; `none` keeps all labeled images. All views share BatchNorm statistics.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        temperature: PositiveFloat,
        tsa: Literal["none", "linear", "log", "exp"],
        steps: PositiveInt,
    ):
        super().__init__()
        self.student, self.weight, self.temperature = student, unlabeled_weight, temperature
        self.num_classes, self.tsa, self.steps = num_classes, tsa, steps
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def tsa_threshold(self, step: Tensor) -> Tensor:
        """η, 0-dim: from 1/C (nearly so for `exp`) to 1 (nearly so for `log`). step: 0-dim."""
        return 1 - (1 - SIGNAL[self.tsa](step / self.steps)) * (1 - 1 / self.num_classes)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, weak, strong = predict_together(self.student, *labeled.views, *unlabeled.views)
        losses = cross_entropy(logits, labeled.target)
        correct = logits.detach().float().softmax(dim=1).gather(1, labeled.target.unsqueeze(1)).squeeze(1)
        keep = (correct <= self.tsa_threshold(step)).float()
        supervised = (keep * losses).sum() / keep.sum().clamp(min=1)
        z = weak.detach().float()
        weight = self.weighting(z.softmax(dim=1), unlabeled.index)
        target = (z / self.temperature).softmax(dim=1)
        consistency = (weight * cross_entropy(strong, target)).mean()
        terms = {"consistency": (self.weight, consistency)}
        metrics = {"kept": weight.mean(), "labeled_kept": keep.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(target, weight), **metrics)

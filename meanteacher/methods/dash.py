"""Dash (Xu et al. 2021, arXiv 2109.00650): FixMatch with a loss threshold that falls during the run."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from meanteacher.config.types import Annotated, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy, one_hot
from meanteacher.methods.common.passes import predict_together


class Dash(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean 1[CE(z, q) ≤ ρ] · CE(student(strong(u)), q), z = student(weak(u)).

    z and q carry no gradient. q = softmax(z / T) while the threshold falls, then the one-hot label argmax z. The second
    mean runs over all unlabeled images. ρ = max(C · γ^−k · ρ̂, ρ_min), where k counts the intervals since the warm-up.
    λ: unlabeled_weight; T: temperature; C: factor; γ: gamma; ρ_min: minimum; warmup, interval: fractions of the run.
    ρ̂ is the mean loss of the labeled batches in the warm-up, during which no unlabeled image counts.

    All views share BatchNorm statistics. Deviations: ρ̂ in USB is the *test* loss of an average that the warm-up left
    at the initial weights; a method must not see test images. The warm-up there precedes the run, without unlabeled
    images; here it is part of the run, and the unlabeled images take part in the BatchNorm statistics.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        unlabeled_weight: NonNegativeFloat,
        temperature: PositiveFloat,
        factor: PositiveFloat,
        gamma: Annotated[float, Field(ge=1)],
        minimum: NonNegativeFloat,
        warmup: Fraction,
        interval: Annotated[float, Field(gt=0, le=1)],
        steps: PositiveInt,
    ):
        super().__init__()
        self.student, self.weight, self.temperature = student, unlabeled_weight, temperature
        self.factor, self.gamma, self.minimum = factor, gamma, minimum
        self.warmup_steps, self.interval_steps = warmup * steps, interval * steps
        self.register_buffer("labeled_loss", torch.tensor(math.log(num_classes)))

    def level(self, step: Tensor) -> Tensor:
        """C · γ^−k · ρ̂, 0-dim: the threshold without its minimum. step: 0-dim."""
        intervals = ((step - self.warmup_steps) / self.interval_steps).floor().clamp(min=0)
        return self.factor * self.gamma**-intervals * self.labeled_loss

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, weak, strong = predict_together(self.student, *labeled.views, *unlabeled.views)
        supervised = cross_entropy(logits, labeled.target).mean()
        warming = step < self.warmup_steps
        mean = self.labeled_loss.lerp(supervised.detach(), 1 / (step + 1))
        self.labeled_loss.copy_(torch.where(warming, mean, self.labeled_loss))
        level = self.level(step)
        threshold = level.clamp(min=self.minimum)
        z = weak.detach().float()
        hard = one_hot(z.argmax(dim=1), z.shape[1])
        q = torch.where(level <= self.minimum, hard, (z / self.temperature).softmax(dim=1))
        weight = (~warming & (cross_entropy(z, q) <= threshold)).float()
        consistency = (weight * cross_entropy(strong, q)).mean()
        terms = {"consistency": (self.weight, consistency)}
        return add_terms(supervised, terms, PseudoLabels(q, weight), kept=weight.mean(), threshold=threshold)

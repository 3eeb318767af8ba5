"""MixMatch (Berthelot et al. 2019, arXiv 1905.02249)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import guess_labels, mix_batch, sharpen
from meanteacher.methods.common.passes import predict_interleaved
from meanteacher.optim.schedules import Constant


class MixMatch(Method):
    """L = mean CE(student(x̃), ỹ) + λ(s) · mean |softmax(student(ũ)) − q̃|², averaged over classes too.

    q = sharpen(mean over two weak views u₁, u₂ of softmax(student(u)), T), the same for both views, without gradient.
    T: temperature. The batch (x, u₁, u₂) with targets (y, q, q) is mixed with a random permutation of itself, so
    labeled and unlabeled images mix: x̃ = ν · x + (1 − ν) · partner, and likewise the targets. ν = max(β, 1 − β) with β
    ~ Beta(alpha, alpha) keeps each image nearer to itself; weight_per: drawn per `image`, as in the paper, or per
    `step`. λ(s) = unlabeled_weight · unlabeled_ramp(s).

    passes: `together`, the mixed images share BatchNorm statistics in one pass, and labels are guessed in one pass of
    both views; `interleaved`, as in the authors' code: as many sub-batches as views (see `predict_interleaved`), and a
    guessing pass for each view. guess_moves_statistics: whether guessing updates the running statistics (not in the
    authors' code). The trainer keeps the averaged weights that the paper evaluates.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "weak"))

    def __init__(
        self,
        *,
        student: nn.Module,
        temperature: PositiveFloat,
        alpha: PositiveFloat,
        weight_per: Literal["image", "step"],
        passes: Literal["together", "interleaved"],
        guess_moves_statistics: bool,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
    ):
        super().__init__()
        self.student, self.temperature, self.alpha, self.weight_per = student, temperature, alpha, weight_per
        self.interleaved = passes == "interleaved"
        self.guess_moves_statistics, self.weight, self.ramp = guess_moves_statistics, unlabeled_weight, unlabeled_ramp

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        q = sharpen(self.guess(unlabeled.views), self.temperature)
        images = torch.cat([*labeled.views, *unlabeled.views])
        targets = torch.cat([one_hot(labeled.target, q.shape[1]), q, q])
        images, targets = mix_batch(images, targets, alpha=self.alpha, per=self.weight_per, nearer=True)
        logits = predict_interleaved(self.student, images, 3) if self.interleaved else self.student(images)
        logits = logits.float()
        supervised = F.cross_entropy(logits[:n], targets[:n])
        consistency = (logits[n:].softmax(dim=1) - targets[n:]).square().mean()
        terms = {"consistency": (self.weight * self.ramp(step), consistency)}
        return add_terms(supervised, terms, PseudoLabels(q, None), confidence=q.amax(dim=1).mean())

    def guess(self, views: tuple[Tensor, ...]) -> Tensor:
        """The mean of the probabilities of both views, [B, K]."""
        batches = views if self.interleaved else [torch.cat(views)]
        guesses = [guess_labels(self.student, b, moves_statistics=self.guess_moves_statistics) for b in batches]
        return sum(torch.cat(guesses).chunk(2)) / 2

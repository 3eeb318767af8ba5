"""MixMatch (Berthelot et al. 2019, arXiv 1905.02249)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import draw, guess, mix, sharpen
from meanteacher.optim.schedules import Constant


class MixMatch(Method):
    """L = mean CE(student(x̃), ỹ) + λ(s) · mean |softmax(student(ũ)) − q̃|², averaged over classes too.

    q = sharpen(mean over two weak views u₁, u₂ of softmax(student(u)), T), the same for both views, no gradient. The
    batch (x, u₁, u₂) with targets (y, q, q) is mixed with a random permutation of itself, so any image may meet any
    other: x̃ = ν·x + (1 − ν)·partner, targets alike. ν = max(β, 1 − β), β from Beta(alpha, alpha), keeps each image
    nearer to itself; one draw per image (the paper's) or per step: `weight_per`. λ(s) = unlabeled_weight ·
    unlabeled_ramp(s). The mixed batch goes through the student in one pass, so labeled and unlabeled images share its
    BatchNorm statistics, which is what the authors' interleaving of equal sub-batches aims at. The guess is a pass of
    its own, over both weak views in one batch by its batch statistics; whether it moves the running ones too is
    `guess_moves_statistics` (the authors': no). The averaged weights that are evaluated, as in the paper, are the
    trainer's.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "weak"))

    def __init__(
        self,
        *,
        student: nn.Module,
        temperature: PositiveFloat,
        alpha: PositiveFloat,
        weight_per: Literal["image", "step"],
        guess_moves_statistics: bool,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
    ):
        super().__init__()
        self.student, self.temperature, self.alpha, self.weight_per = student, temperature, alpha, weight_per
        self.guess_moves_statistics, self.weight, self.ramp = guess_moves_statistics, unlabeled_weight, unlabeled_ramp

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        both = guess(self.student, torch.cat(unlabeled.views), moves_statistics=self.guess_moves_statistics)
        q = sharpen(sum(both.chunk(2)) / 2, self.temperature)
        images = torch.cat([*labeled.views, *unlabeled.views])
        targets = torch.cat([one_hot(labeled.target, q.shape[1]), q, q])
        partner, weight = draw(images, self.alpha, self.weight_per)
        weight = torch.maximum(weight, 1 - weight)
        targets = mix(targets, targets[partner], weight)
        logits = self.student(mix(images, images[partner], weight)).float()
        supervised = F.cross_entropy(logits[:n], targets[:n])
        consistency = (logits[n:].softmax(dim=1) - targets[n:]).square().mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        metrics = {"supervised": supervised, "consistency": consistency, "confidence": q.amax(dim=1).mean()}
        return StepOutput(loss, metrics)

"""ReMixMatch (Berthelot et al. 2020, arXiv 1911.09785)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.errors import UserError
from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import draw, guess, mix, sharpen
from meanteacher.methods.common.rotation import quarters, rotate
from meanteacher.optim.schedules import Constant


class ReMixMatch(Method):
    """L = CE(x̃, ỹ) + r(s)·[λ_m · CE(ũ, q̃) + λ_s · CE(v, q)] + λ_r · CE_rotation(turn(v, k), k), each a mean.

    q = sharpen(align(softmax(student(weak u))), T), no gradient, is the target of the weak view and of all
    `strong_views` strong ones (augmentation anchoring); v: the first strong view, unmixed. align: by the ratio of a
    class marginal to the running mean of the guesses, `alignment`. marginal: `labeled`, the running mean of the labeled
    batches' targets, or `uniform`.
    x̃, ũ: the batch (x, weak u, strong u …) with targets (y, q, q …), mixed with a random permutation of itself, so any
    image may meet any other: ν·x + (1 − ν)·partner, ν = max(β, 1 − β), β from Beta(alpha, alpha) per image (the
    paper's) or per step: `weight_per`. λ_m, λ_s, λ_r: mixed_weight, strong_weight, rotation_weight; r: unlabeled_ramp.
    k quarter turns, drawn for each image, are told by a linear head on the averaged last features of the student.
    labeled_view: of x; `strong` in the paper.
    Mixed images, v and its rotations go through the student in one pass and share its BatchNorm statistics (the authors
    run equal sub-batches, of which one moves the running ones). The guess is a pass of its own by its batch statistics;
    whether it moves the running ones is `guess_moves_statistics` (the authors': no).
    Deviations: the strong views are the augmentation's, not CTAugment's; running means decay exponentially instead of
    covering 128 batches, and count the batch they align; quarter turns are drawn, not dealt out equally. The averaged
    weights that are evaluated are the trainer's.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        labeled_view: Literal["weak", "strong"],
        strong_views: PositiveInt,
        temperature: PositiveFloat,
        marginal: Literal["labeled", "uniform"],
        alignment: DistributionAlignment,
        alpha: PositiveFloat,
        weight_per: Literal["image", "step"],
        guess_moves_statistics: bool,
        mixed_weight: NonNegativeFloat,
        strong_weight: NonNegativeFloat,
        rotation_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
    ):
        super().__init__()
        self.views = Views((labeled_view,), ("weak", *["strong"] * strong_views))
        self.student, self.rotation_head = student, nn.Linear(student.feature_channels, 4)
        self.alignment, self.marginal = alignment.bind(num_classes=num_classes), marginal
        self.temperature, self.alpha, self.weight_per = temperature, alpha, weight_per
        self.guess_moves_statistics, self.ramp = guess_moves_statistics, unlabeled_ramp
        self.weights = mixed_weight, strong_weight, rotation_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n, (weak, strong, *_) = len(labeled.target), unlabeled.views
        if weak.shape[2] != weak.shape[3]:
            raise UserError(f"method=remixmatch turns images by 90°, these are {weak.shape[2]}×{weak.shape[3]}")
        probs = guess(self.student, weak, moves_statistics=self.guess_moves_statistics)
        y = one_hot(labeled.target, probs.shape[1])
        q = sharpen(self.alignment(probs, y if self.marginal == "labeled" else None), self.temperature)
        images = torch.cat([*labeled.views, *unlabeled.views])
        targets = torch.cat([y, *[q] * len(unlabeled.views)])
        partner, weight = draw(images, self.alpha, self.weight_per)
        weight = torch.maximum(weight, 1 - weight)
        images, targets = mix(images, images[partner], weight), mix(targets, targets[partner], weight)
        turns = quarters(strong)
        features = self.student.features(torch.cat([images, strong, rotate(strong, turns)]))
        logits = self.student.head(features[: -len(strong)]).float()
        turned = self.rotation_head(self.student.pool(features[-len(strong) :])).float()
        losses = {
            "supervised": F.cross_entropy(logits[:n], targets[:n]),
            "mixed": F.cross_entropy(logits[n : -len(strong)], targets[n:]),
            "strong": F.cross_entropy(logits[-len(strong) :], q),
            "rotation": F.cross_entropy(turned, turns),
        }
        mixed, strong_weight, rotation = self.weights
        unsupervised = self.ramp(step) * (mixed * losses["mixed"] + strong_weight * losses["strong"])
        loss = losses["supervised"] + unsupervised + rotation * losses["rotation"]
        metrics = losses | {"confidence": q.amax(dim=1).mean()}
        return StepOutput(loss, metrics)

"""ReMixMatch (Berthelot et al. 2020, arXiv 1911.09785)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import guess_labels, mix_batch, sharpen
from meanteacher.methods.common.rotation import draw_quarter_turns, rotate
from meanteacher.models.base import Network
from meanteacher.optim.schedules import Constant


class ReMixMatch(Method):
    """L = CE(x̃, ỹ) + r(s) · [λ_m · CE(ũ, q̃) + λ_s · CE(v, q)] + λ_r · CE_rotation(turn(v, k), k), each a mean.

    q = sharpen(align(softmax(student(weak u))), T), without gradient, is the target of the weak view and of all
    `strong_views` strong views (augmentation anchoring); v: the first strong view, unmixed. T: temperature. align: see
    `DistributionAlignment`; marginal: align to the running mean of the `labeled` targets, or to the `uniform`
    distribution. x̃, ũ: the batch (x, weak u, strong u …) with targets (y, q, q …), mixed as in MixMatch; alpha,
    weight_per and guess_moves_statistics as there. λ_m, λ_s, λ_r: mixed_weight, strong_weight, rotation_weight; r:
    unlabeled_ramp. A linear head on the student's pooled features predicts the number k of quarter turns, drawn for
    each image. labeled_view: the view of x; `strong` in the paper. Mixed images, v and its rotations share BatchNorm
    statistics in one pass; the authors use equal sub-batches, one of which updates the running statistics. Deviations:
    strong views come from the configured augmentation, not from CTAugment; running means decay exponentially instead of
    covering 128 batches, and include the batch that they align; quarter turns are drawn at random. The trainer keeps
    the averaged weights that the paper evaluates.
    """

    needs_features = True
    needs_square_images = True

    def __init__(
        self,
        *,
        student: Network,
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
        probs = guess_labels(self.student, weak, moves_statistics=self.guess_moves_statistics)
        y = one_hot(labeled.target, probs.shape[1])
        q = sharpen(self.alignment(probs, y if self.marginal == "labeled" else None), self.temperature)
        images = torch.cat([*labeled.views, *unlabeled.views])
        targets = torch.cat([y, *[q] * len(unlabeled.views)])
        images, targets = mix_batch(images, targets, alpha=self.alpha, per=self.weight_per, nearer=True)
        turns = draw_quarter_turns(strong)
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
        return StepOutput(loss, losses | {"confidence": q.amax(dim=1).mean()}, PseudoLabels(q, None))

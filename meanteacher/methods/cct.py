"""Cross-Consistency Training (Ouali et al. 2020, arXiv 2003.09005), for classification."""

from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Annotated, Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy, softmax_mse
from meanteacher.methods.common.perturbations import DrawPer, adversarial, cutout, drop, drop_channels, noise
from meanteacher.models.base import Network
from meanteacher.optim.schedules import Constant


class CCT(Method):
    """L = mean CE(student(x), y) + λ(s) · mean over heads k and classes of (softmax g_k(P_k(z)) − softmax student(u))².

    z = student.features(u) is the last feature map; the target student(u) = student.head(z) has no gradient. P_k is the
    k-th of `perturbations`, which may repeat a name, as in the paper; g_k is a linear layer on the mean over positions,
    where the paper, on segmentation, has a decoder. λ(s) = consistency_weight · consistency_ramp(s). The term runs over
    unlabeled images and trains the heads and the student's features; the heads are not evaluated. Labeled and unlabeled
    images share BatchNorm statistics. draw_per: whether noise and γ are drawn per image or per batch. See
    `common.perturbations` for noise_width, drop_low, drop_high, dropout, cutout_side, vat_xi and vat_epsilon. The
    paper's cutout follows the contours of predicted objects, and two more of its perturbations use predicted objects
    and context; all of these need segmentation.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))
    needs_features = True
    needs_feature_map = True

    def __init__(
        self,
        *,
        student: Network,
        num_classes: PositiveInt,
        perturbations: Annotated[list[Literal["noise", "drop", "dropout", "cutout", "vat"]], Field(min_length=1)],
        draw_per: DrawPer,
        noise_width: NonNegativeFloat,
        drop_low: Fraction,
        drop_high: Fraction,
        dropout: Decay,
        cutout_side: Fraction,
        vat_xi: PositiveFloat,
        vat_epsilon: PositiveFloat,
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
    ):
        super().__init__()
        if drop_low > drop_high:
            raise UserError(f"method.drop_low={drop_low}: must be at most method.drop_high={drop_high}")
        known = {
            "noise": partial(noise, width=noise_width, per=draw_per),
            "drop": partial(drop, low=drop_low, high=drop_high, per=draw_per),
            "dropout": partial(drop_channels, probability=dropout),
            "cutout": partial(cutout, side=cutout_side),
            "vat": partial(adversarial, xi=vat_xi, epsilon=vat_epsilon),
        }
        self.student, self.weight, self.ramp = student, consistency_weight, consistency_ramp
        self.perturbations = [known[name] for name in perturbations]
        self.heads = nn.ModuleList(nn.Linear(student.feature_channels, num_classes) for _ in perturbations)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        features = self.student.features(torch.cat([labeled.views[0], unlabeled.views[0]]))
        logits = self.student.head(features)
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        distances = [
            softmax_mse(head(self.student.pool(perturb(features[n:], head))), logits[n:]).mean()
            for perturb, head in zip(self.perturbations, self.heads, strict=True)
        ]
        consistency = torch.stack(distances).mean()
        return add_terms(supervised, {"consistency": (self.weight * self.ramp(step), consistency)})

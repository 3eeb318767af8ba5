"""Cross-Consistency Training (Ouali et al. 2020, arXiv 2003.09005), for classification."""

from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Annotated, Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy, softmax_mse
from meanteacher.methods.common.perturbations import adversarial, cutout, drop, drop_channels, noise
from meanteacher.optim.schedules import Constant


class CCT(Method):
    """L = mean CE(student(x), y) + λ(s) · mean over heads k of mean ‖softmax g_k(P_k(z)) − softmax student(u)‖² / classes.

    z = student.features(u) is the last feature map and student(u) = student.head(z) the target, without gradient.
    P_k perturbs z by the k-th name in `perturbations` (a name may recur, as in the paper); g_k is a linear layer of its own
    after the mean over positions, where the paper, on segmentation, has a decoder. λ(s) = consistency_weight ·
    consistency_ramp(s). The term runs over unlabeled images and trains the heads and the student's feature map; the labels
    train the student alone. The heads are not evaluated. Labeled and unlabeled images share one BatchNorm batch.

    noise: z(1 + n), n ~ U(−noise_width, noise_width) for each value. drop: the positions where the mean over channels is γ
    times its maximum or more become 0, γ ~ U(drop_low, drop_high) for each image. dropout: whole channels, with probability
    dropout. cutout: a rectangle of cutout_side times the map's sides, anywhere inside, becomes 0; the paper's follows the
    contours of predicted objects, which a class label does not have. vat: see `adversarial`. The paper's perturbations by
    predicted objects and context need segmentation too.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))
    needs_feature_map = True

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        perturbations: Annotated[list[Literal["noise", "drop", "dropout", "cutout", "vat"]], Field(min_length=1)],
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
        known = {
            "noise": partial(noise, width=noise_width),
            "drop": partial(drop, low=drop_low, high=drop_high),
            "dropout": partial(drop_channels, probability=dropout),
            "cutout": partial(cutout, side=cutout_side),
            "vat": partial(adversarial, xi=vat_xi, epsilon=vat_epsilon),
        }
        if drop_low > drop_high:
            raise UserError(f"method.drop_low={drop_low}: at most method.drop_high={drop_high}")
        self.student, self.weight, self.ramp = student, consistency_weight, consistency_ramp
        self.perturb = [known[name] for name in perturbations]
        self.heads = nn.ModuleList(nn.Linear(student.feature_channels, num_classes) for _ in perturbations)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        features = self.student.features(torch.cat([labeled.views[0], unlabeled.views[0]]))
        logits = self.student.head(features)
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        found = [
            softmax_mse(head(perturb(features[n:], head).mean((2, 3))), logits[n:]).mean()
            for perturb, head in zip(self.perturb, self.heads, strict=True)
        ]
        consistency = torch.stack(found).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(loss, {"supervised": supervised, "consistency": consistency})

"""Cross-Consistency Training (Ouali et al. 2020, arXiv 2003.09005), for classification."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meanteacher.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.errors import UserError
from meanteacher.losses import cross_entropy, softmax_mse
from meanteacher.methods.base import Method
from meanteacher.schedules import Constant
from meanteacher.types import Decay, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt


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

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        perturbations: list[str],
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
        if not perturbations or not set(perturbations) <= set(known):
            raise UserError(f"method.perturbations={perturbations}: name one or more of {', '.join(known)}")
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
        return StepOutput(loss, {"supervised": supervised.detach(), "consistency": consistency.detach()})


def noise(z: Tensor, head: nn.Linear, *, width: float) -> Tensor:
    """z(1 + n), n ~ U(−width, width), one for each value."""
    return z * (1 + width * (2 * torch.rand(z.shape, device=z.device) - 1))


def drop(z: Tensor, head: nn.Linear, *, low: float, high: float) -> Tensor:
    """0 where the mean over channels is not below γ times its maximum in the image, γ ~ U(low, high) for each image."""
    attention = z.detach().float().mean(dim=1, keepdim=True)
    gamma = low + (high - low) * torch.rand(len(z), 1, 1, 1, device=z.device)
    return z * (attention < gamma * attention.amax((2, 3), keepdim=True))


def drop_channels(z: Tensor, head: nn.Linear, *, probability: float) -> Tensor:
    """Whole channels of an image become 0 with this probability; the others are divided by 1 − probability."""
    keep = torch.rand(*z.shape[:2], 1, 1, device=z.device) >= probability
    return z * (keep / (1 - probability))


def cutout(z: Tensor, head: nn.Linear, *, side: float) -> Tensor:
    """0 in a rectangle of round(side · height) by round(side · width), at least 1 by 1, at a random place inside the map."""
    inside = torch.ones((), dtype=torch.bool, device=z.device)
    for size, shape in zip(z.shape[2:], ((-1, 1), (-1,)), strict=True):
        length = max(round(side * size), 1)
        start = (torch.rand(len(z), 1, 1, 1, device=z.device) * (size - length + 1)).long()
        place = torch.arange(size, device=z.device).view(shape)
        inside = inside & (place >= start) & (place < start + length)
    return z * ~inside


def adversarial(z: Tensor, head: nn.Linear, *, xi: float, epsilon: float) -> Tensor:
    """z + εg/|g|, g the gradient with respect to d of KL(p(z) ‖ p(z + ξd)), d Gaussian with |d| = 1 in each image, p by `head`.

    Since the head is linear in the mean over the map's h·w positions, g = Wᵀ(p(z + ξd) − p(z)) / hw at each of them, written
    out in float32 whatever the step's precision. No gradient goes through g.
    """
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        d = F.normalize(torch.randn_like(z, dtype=torch.float32).flatten(1), dim=1).view(z.shape).mean((2, 3))
        mean = z.float().mean((2, 3))
        change = head(mean + xi * d).softmax(dim=1) - head(mean).softmax(dim=1)
        positions = z.shape[2] * z.shape[3]
        r = epsilon * F.normalize(change @ head.weight, dim=1) / positions**0.5
    return z + r[:, :, None, None]

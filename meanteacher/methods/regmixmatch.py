"""RegMixMatch (Han et al. 2025, arXiv 2412.10741)."""

from typing import Any

import torch
from torch import Tensor

from meanteacher.config.types import Fraction, NonNegativeFloat, PositiveFloat
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.common.losses import cross_entropy, one_hot
from meanteacher.methods.common.resize_mix import draw_scales, resize_mix
from meanteacher.methods.freematch import FreeMatch


def draw_scores(images: Tensor, pool: Tensor) -> Tensor:
    """Independent draws from U(0, 1), float32 [B, P]: an image's partner is the allowed one of the highest score."""
    return torch.rand(len(images), len(pool), device=images.device)


class RegMixMatch(FreeMatch):
    """FreeMatch's loss + λ_h · Σ 1[sure] · CE(student(m), t) / U + λ_l · mean over unsure of c³ · MSE(student(m), t).

    q: FreeMatch's prediction for the weak view; c = max q; sure: c ≥ mix_threshold. m: the strong view with a small
    copy of another image in it (`resize_mix`), so that the fraction ν is its own; t = ν · own + (1 − ν) · onehot(class
    of the other). Sure images (semi-supervised RegMixup): own = onehot(argmax q), and the other one is sure. With
    mix_labeled, labeled images count as sure and are mixed too. Unsure images (class-aware mixup): own = q, and the
    other one is sure or labeled and, with probability class_aware, of class argmax q; if there is none, m is not mixed.
    high_alpha, low_alpha: of `draw_scales` for sure and unsure images. λ_h, λ_l: mix_weight, low_weight; U: number of
    unlabeled images. MSE: of probabilities, averaged over classes. Targets carry no gradient. Mixed images pass through
    the student by themselves, and this pass also moves the running BatchNorm statistics, as in the authors' code.
    """

    def __init__(
        self,
        *,
        mix_threshold: Fraction,
        mix_labeled: bool,
        high_alpha: PositiveFloat,
        low_alpha: PositiveFloat,
        class_aware: Fraction,
        mix_weight: NonNegativeFloat,
        low_weight: NonNegativeFloat,
        **freematch: Any,
    ):
        super().__init__(**freematch)
        self.mix_threshold, self.mix_labeled, self.class_aware = mix_threshold, mix_labeled, class_aware
        self.alphas, self.mix_weight, self.low_weight = (high_alpha, low_alpha), mix_weight, low_weight

    def further_terms(
        self, labeled: Labeled, unlabeled: Unlabeled, q: Tensor, strong: Tensor, weight: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        fairness = super().further_terms(labeled, unlabeled, q, strong, weight)
        return fairness | self.mixed_terms(labeled, unlabeled.views[1], q)

    def mixed_terms(self, labeled: Labeled, strong: Tensor, q: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The terms of mixed images, as in `add_terms`. strong: images [U, …]; q: float32 [U, C]."""
        n, images = len(labeled.target), torch.cat([labeled.views[0], strong])
        own = torch.cat([one_hot(labeled.target, q.shape[1]), q])
        (confidence, classes), is_labeled = own.max(dim=1), torch.arange(len(own), device=q.device) < n
        sure = confidence >= self.mix_threshold
        aware = torch.rand(len(own), 1, device=q.device) < self.class_aware
        for_unsure = ~aware | (classes[:, None] == classes)
        allowed = sure & torch.where(sure[:, None], ~is_labeled | self.mix_labeled, for_unsure)
        partner = draw_scores(images, images).masked_fill(~allowed, -torch.inf).argmax(dim=1)
        scale = torch.where(sure, *(draw_scales(alpha, len(own), q.device) for alpha in self.alphas))
        mixed, fraction = resize_mix(images, images[partner], scale * allowed.any(dim=1))
        hard = one_hot(classes, q.shape[1])
        targets = torch.lerp(hard[partner], torch.where(sure[:, None], hard, own), fraction[:, None])
        used = slice(0 if self.mix_labeled else n, None)
        logits, targets, sure = self.student(mixed[used]).float(), targets[used], sure[used].float()
        high = (sure * cross_entropy(logits, targets)).sum() / len(q)
        distance = (logits.softmax(dim=1) - targets).square().mean(dim=1)
        low = ((1 - sure) * confidence[used] ** 3 * distance).sum() / (1 - sure).sum().clamp(min=1)
        return {"mixed_high": (self.mix_weight, high), "mixed_low": (self.low_weight, low)}

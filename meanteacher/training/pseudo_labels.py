"""Scores of a method's pseudo-labels, computed outside of the method from the labels that are hidden from it."""

import torch
from torch import Tensor

from meanteacher.data.images import OTHER_CLASS, UNLABELED
from meanteacher.methods.base import PseudoLabels
from meanteacher.methods.common.losses import one_hot

PREFIX = "pseudo_label_"
"""Of the names of the scores."""


class PseudoLabelMeter:
    """Sums over the log interval, from which `scores` computes ratios. Images without a hidden label are left out.

    An image that is known to belong to none of the classes counts, and every pseudo-label of it is wrong. `add` works
    in place and without host–device synchronization, so it can be part of a CUDA graph. classes: K. The sums, float32
    [2K + 4], are those of the weights of the pseudo-labels by class, of the hidden labels by class, where both have a
    last entry for other classes, of the weights of correct pseudo-labels, and of the pseudo-labels with a weight above
    0.
    """

    def __init__(self, classes: int, device: torch.device):
        self.columns, self.sums = classes + 1, torch.zeros(2 * classes + 4, device=device)

    @torch.no_grad()
    def add(self, pseudo_labels: PseudoLabels, hidden: Tensor) -> None:
        """Add one step. hidden: int64 [B], the hidden labels of the unlabeled images, −1 where there is none.

        −2 stands for any other class.
        """
        target, weight = pseudo_labels
        target = target.argmax(dim=1) if target.dim() == 2 else target
        known = (hidden != UNLABELED).float()
        hidden = torch.where(hidden == OTHER_CLASS, self.columns - 1, hidden)
        weight = known if weight is None else known * weight.float()
        columns = [
            weight[:, None] * one_hot(target, self.columns),
            known[:, None] * one_hot(hidden.clamp(min=0), self.columns),
            (weight * (target == hidden))[:, None],
            (weight > 0).float()[:, None],
        ]
        self.sums.add_(torch.cat(columns, dim=1).sum(dim=0))

    def scores(self) -> dict[str, float]:
        """The scores since the previous call, by name. Waits for the device and resets the sums.

        With the weight w, the pseudo-label ŷ and the hidden label y of each image: precision = Σ w · 1[ŷ = y] / Σ w;
        coverage: the share of images with w > 0; weighted coverage: the mean of w; balance = 1 − ½ Σ_c |P_c − Q_c|,
        where P are the shares of the classes in Σ w, by ŷ, and Q those in the hidden labels. Empty without any hidden
        label; without any weight above 0, precision and balance are missing.
        """
        *by_class, correct, kept = self.sums.tolist()
        self.sums.zero_()
        pseudo, hidden = by_class[: self.columns], by_class[self.columns :]
        weight, images = sum(pseudo), sum(hidden)
        if not images:
            return {}
        scores = {"coverage": kept / images, "weighted_coverage": weight / images}
        if weight:
            pairs = zip(pseudo, hidden, strict=True)
            distance = sum(abs(p / weight - q / images) for p, q in pairs) / 2
            scores = {"precision": correct / weight, **scores, "balance": 1 - distance}
        return {PREFIX + name: score for name, score in scores.items()}

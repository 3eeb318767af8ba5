"""How much each pseudo-label counts: a weight in [0, 1] per unlabeled image, from the prediction that gives the label.

A weighting is a node of a method's yaml and works in each method that has a `weighting` key. The method calls `bind`
once with what the run knows; all state is then in buffers. Sums over a batch are in an order that does not depend on
the device's scheduling: sums of one-hot rows, or integer additions and maxima, whose order does not matter.
"""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Fraction, PositiveFloat
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import one_hot


class Weighting(nn.Module):
    """`weighting(probabilities, index)` → float32 [B]; the state moves at each call."""

    def bind(self, *, num_classes: int, num_images: int) -> "Weighting":
        """Make the state. num_images: of the training part, for tables by image."""
        return self

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        """probabilities: float32 [B, C], detached; index: int64 [B], the images' positions in the training part."""
        raise NotImplementedError


class FixedThreshold(Weighting):
    """w = 1[max p ≥ τ] (FixMatch, Sohn et al. 2020, arXiv 2001.07685, eq. 4). threshold: τ."""

    def __init__(self, *, threshold: Fraction):
        super().__init__()
        self.threshold = threshold

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        return (probabilities.amax(dim=1) >= self.threshold).float()


class CurriculumThreshold(Weighting):
    """FlexMatch's thresholds (Zhang et al. 2021, arXiv 2110.08263): w = 1[max p ≥ τ · M(β_c)], c = argmax p.

    A table holds for each image the class c that was last predicted with max p ≥ τ, −1 before the first time; it is
    never erased. With n_c the images that hold c and n_− those at −1, β_c = n_c / max(max n, n_−) and
    M(β) = β / (2 − β). The counts are those before this step, then the step's predictions are written. At the start
    all β are 0 and everything passes. threshold: τ.

    n_− counts all images of the training part: with held-out images, or `dataset.labeled_in_unlabeled=false`, it
    does not fall below their number; the paper's pool is the whole training part.
    An image that comes twice in a batch with two classes holds the greater class number, whatever the order.
    """

    def __init__(self, *, threshold: Fraction):
        super().__init__()
        self.threshold = threshold

    def bind(self, *, num_classes: int, num_images: int) -> "CurriculumThreshold":
        self.num_classes = num_classes
        self.register_buffer("learned", torch.full((num_images,), -1))
        return self

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        confidence, pseudo = probabilities.max(dim=1)
        counts = torch.zeros(self.num_classes + 1, dtype=torch.int64, device=index.device)
        counts = counts.scatter_add(0, self.learned + 1, torch.ones_like(self.learned))
        beta = counts[1:] / counts.max()
        weight = (confidence >= (self.threshold * beta / (2 - beta))[pseudo]).float()
        written = torch.where(confidence >= self.threshold, pseudo, -1)
        fresh = torch.full_like(self.learned, -1).scatter_reduce(0, index, written, "amax")
        self.learned.copy_(torch.where(fresh >= 0, fresh, self.learned))
        return weight


class SelfAdaptiveThreshold(Weighting):
    """FreeMatch's threshold (Wang et al. 2023, arXiv 2205.07246): w = 1[max p ≥ τ · p̃_c / max p̃], c = argmax p.

    τ: running mean of max p, p̃: of p, and h̃: of the share of images whose argmax is c, which the fairness term
    needs. All start at 1/C and move before they are used. decay: of the three. clamp_min, clamp_max: bounds of τ
    where it is used; the running mean itself is not clamped.
    """

    def __init__(self, *, decay: Decay, clamp_min: Fraction, clamp_max: Fraction):
        super().__init__()
        self.decay, self.clamp_min, self.clamp_max = decay, clamp_min, clamp_max

    def bind(self, *, num_classes: int, num_images: int) -> "SelfAdaptiveThreshold":
        self.num_classes = num_classes
        self.register_buffer("level", torch.tensor(1 / num_classes))
        self.register_buffer("classes", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("histogram", torch.full((num_classes,), 1 / num_classes))
        return self

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        confidence, pseudo = probabilities.max(dim=1)
        self.level.lerp_(confidence.mean(), 1 - self.decay)
        self.classes.lerp_(probabilities.mean(dim=0), 1 - self.decay)
        self.histogram.lerp_(one_hot(pseudo, self.num_classes).mean(dim=0), 1 - self.decay)
        thresholds = self.level.clamp(self.clamp_min, self.clamp_max) * self.classes / self.classes.max()
        return (confidence >= thresholds[pseudo]).float()


class TruncatedGaussian(Weighting):
    """SoftMatch's weight (Chen et al. 2023, arXiv 2301.10921): w = exp(−min(m − μ, 0)² · n² / (2σ²)), m = max p.

    μ and σ²: running mean and (unbiased) variance of m over the batch; they start at 1/C and 1 and move before they
    are used. decay: of both. n_sigma: n. uniform_alignment: take m from p aligned to the uniform class marginal (see
    `DistributionAlignment`, with the same decay); the pseudo-label stays that of the unaligned p.
    """

    def __init__(self, *, decay: Decay, n_sigma: PositiveFloat, uniform_alignment: bool):
        super().__init__()
        self.decay, self.n_sigma, self.uniform_alignment = decay, n_sigma, uniform_alignment

    def bind(self, *, num_classes: int, num_images: int) -> "TruncatedGaussian":
        self.register_buffer("mean", torch.tensor(1 / num_classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.alignment = DistributionAlignment(decay=self.decay).bind(num_classes=num_classes)
        return self

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        if self.uniform_alignment:
            probabilities = self.alignment(probabilities, None)
        confidence = probabilities.amax(dim=1)
        spread = (confidence - confidence.mean()).square().sum() / max(len(confidence) - 1, 1)
        self.mean.lerp_(confidence.mean(), 1 - self.decay)
        self.variance.lerp_(spread, 1 - self.decay)
        below = (confidence - self.mean).clamp(max=0)
        return torch.exp(-below.square() * self.n_sigma**2 / (2 * self.variance.clamp(min=1e-12)))

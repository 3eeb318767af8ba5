"""Weights of pseudo-labels: a number in [0, 1] per unlabeled image, computed from the prediction that gives the label.

A weighting is a node in the yaml file of every method that has a `weighting` key. The method calls `bind` once; all
state is then in buffers. Sums over a batch are deterministic: they sum one-hot rows, or use integer additions and
maxima, whose order does not matter.
"""

from typing import Self

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Fraction, Literal, PositiveFloat
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import one_hot


class Weighting(nn.Module):
    """`weighting(probabilities, index)` gives weights, float32 [B], and updates the state."""

    def bind(self, *, num_classes: int, num_images: int) -> Self:
        """Create the state. num_images: of the training part, for tables with an entry per image."""
        return self

    def metrics(self) -> dict[str, Tensor]:
        """0-dim tensors of the state to log, by name."""
        return {}

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        """probabilities: float32 [B, C], detached; index: int64 [B], positions of the images in the training part."""
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

    A table holds for each image the class that was last predicted with max p ≥ τ, initially −1; an entry is never
    erased. With n_c the number of images that hold c and n_− the number at −1, β_c = n_c / max(max n, n_−) and M(β) = β
    / (2 − β). The counts are those before this step, whose predictions are written afterwards. At the start all β are 0
    and every image passes. threshold: τ.

    n_− counts all images of the training part. With held-out images, or with `dataset.labeled_in_unlabeled=false`, it
    does not fall below their number; the paper uses the whole training part. An image that occurs twice in a batch with
    two classes holds the larger class number, whatever the order.
    """

    def __init__(self, *, threshold: Fraction):
        super().__init__()
        self.threshold = threshold

    def bind(self, *, num_classes: int, num_images: int) -> Self:
        self.num_classes = num_classes
        self.register_buffer("learned", torch.full((num_images,), -1))
        return self

    def forward(self, probabilities: Tensor, index: Tensor) -> Tensor:
        confidence, pseudo = probabilities.max(dim=1)
        counts = torch.zeros(self.num_classes + 1, dtype=torch.int64, device=index.device)
        counts = counts.scatter_add(0, self.learned + 1, torch.ones_like(self.learned))
        beta = counts[1:] / counts.max()
        weight = (confidence >= (self.threshold * beta / (2 - beta))[pseudo]).float()
        confident = torch.where(confidence >= self.threshold, pseudo, -1)
        written = torch.full_like(self.learned, -1).scatter_reduce(0, index, confident, "amax")
        self.learned.copy_(torch.where(written >= 0, written, self.learned))
        return weight


class SelfAdaptiveThreshold(Weighting):
    """FreeMatch's threshold (Wang et al. 2023, arXiv 2205.07246): w = 1[max p ≥ τ · p̃_c / max p̃], c = argmax p.

    Running means of max p (τ), of p (p̃) and of the fraction of images whose argmax is c (h̃, for the fairness term)
    start at 1/C and are updated before they are used. decay: of all three. clamp_min, clamp_max: bounds of τ where it
    is used; the running mean itself is not clamped.
    """

    def __init__(self, *, decay: Decay, clamp_min: Fraction, clamp_max: Fraction):
        super().__init__()
        self.decay, self.clamp_min, self.clamp_max = decay, clamp_min, clamp_max

    def bind(self, *, num_classes: int, num_images: int) -> Self:
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

    def metrics(self) -> dict[str, Tensor]:
        return {"threshold": self.level.clone()}


class TruncatedGaussian(Weighting):
    """SoftMatch's weight (Chen et al. 2023, arXiv 2301.10921): w = exp(−min(m − μ, 0)² · n² / (2σ²)), m = max p.

    μ and σ²: running means of the mean and the unbiased variance of m over the batch; they start at 1/C and 1 and are
    updated before they are used. decay: of both. n_sigma: n. uniform_alignment: compute m from p aligned to the uniform
    class marginal (`DistributionAlignment` with the same decay and with `alignment_start`); the pseudo-label is still
    that of the unaligned p.
    """

    def __init__(
        self,
        *,
        decay: Decay,
        n_sigma: PositiveFloat,
        uniform_alignment: bool,
        alignment_start: Literal["uniform", "first_batch"],
    ):
        super().__init__()
        self.decay, self.n_sigma, self.uniform_alignment = decay, n_sigma, uniform_alignment
        self.alignment_start = alignment_start

    def bind(self, *, num_classes: int, num_images: int) -> Self:
        self.register_buffer("mean", torch.tensor(1 / num_classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.alignment = DistributionAlignment(decay=self.decay, start=self.alignment_start).bind(
            num_classes=num_classes
        )
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

"""Mixup (Zhang et al. 2018, arXiv 1710.09412), and label guessing for the methods that are built on it."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal
from meanteacher.models.batch_norm import freeze_running_stats


def draw_beta(alpha: float, count: int, device: torch.device) -> Tensor:
    """`count` independent samples of Beta(α, α), float32 [count], without host–device synchronization.

    The ratio a / (a + b) of two Gamma(α) samples, each computed as Gamma(α + 1) · U^{1/α} in logarithms, which is exact
    for small α too, where Gamma(α) itself underflows.
    """
    gamma = torch._standard_gamma(torch.full((2, count), alpha + 1.0, device=device))
    a, b = gamma.log() - torch.empty_like(gamma).exponential_() / alpha
    return torch.sigmoid(a - b)


def draw_partners(batch: Tensor) -> Tensor:
    """A uniformly random permutation of the batch's positions, int64 [B]: image i is mixed with image partners[i]."""
    return torch.rand(len(batch), device=batch.device).argsort()


def draw_pairs(batch: Tensor, alpha: float, per: Literal["image", "step"]) -> tuple[Tensor, Tensor]:
    """Partners, int64 [B], and mixing weights from Beta(alpha, alpha), float32: [B] if drawn per image, else [1]."""
    return draw_partners(batch), draw_beta(alpha, len(batch) if per == "image" else 1, batch.device)


def mix(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """weight · a + (1 − weight) · b. a, b [B, …]; weight [B] or [1]."""
    weight = weight.view(-1, *[1] * (a.dim() - 1))
    return weight * a + (1 - weight) * b


def mix_batch(
    images: Tensor, targets: Tensor, *, alpha: float, per: Literal["image", "step"], nearer: bool
) -> tuple[Tensor, Tensor]:
    """Images [B, …] and targets [B, K], mixed with the same random partners and weights from Beta(alpha, alpha).

    nearer: use max(ν, 1 − ν) as the weight, so that each image stays nearer to itself than to its partner.
    """
    partner, weight = draw_pairs(images, alpha, per)
    if nearer:
        weight = torch.maximum(weight, 1 - weight)
    return mix(images, images[partner], weight), mix(targets, targets[partner], weight)


def sharpen(probs: Tensor, temperature: float) -> Tensor:
    """p^{1/T} divided by its sum over classes, [B, K]: T < 1 favors the largest class. Does not underflow."""
    powers = (probs / probs.amax(dim=1, keepdim=True)).pow(1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


@torch.no_grad()
def guess_labels(student: nn.Module, images: Tensor, *, moves_statistics: bool) -> Tensor:
    """The student's probabilities without gradient, float32 [B, K], normalized by batch statistics in training mode.

    moves_statistics: whether the pass updates the running BatchNorm statistics.
    """
    with freeze_running_stats(student, not moves_statistics):
        return student(images).float().softmax(dim=1)

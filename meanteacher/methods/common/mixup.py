"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and what the methods built on it share."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal
from meanteacher.models.batch_norm import freeze_running_stats


def beta(alpha: float, count: int, device: torch.device) -> Tensor:
    """`count` independent samples of Beta(α, α), float32 [count]. Nothing is read back.

    A ratio a / (a + b) of two Gamma(α) draws, each as Gamma(α + 1) · U^{1/α} and all in logarithms: exact for small α
    too, where Gamma(α) itself underflows.
    """
    gamma = torch._standard_gamma(torch.full((2, count), alpha + 1.0, device=device))
    a, b = gamma.log() - torch.empty_like(gamma).exponential_() / alpha
    return torch.sigmoid(a - b)


def partners(batch: Tensor) -> Tensor:
    """A uniformly random permutation of the batch's places, int64 [B]: image i is mixed with partners[i], maybe itself.

    Pairs lie within the tensor that is given. With several ranks each pairs its own share of the batch, from its own
    generator.
    """
    return torch.rand(len(batch), device=batch.device).argsort()


def draw(batch: Tensor, alpha: float, per: Literal["image", "step"]) -> tuple[Tensor, Tensor]:
    """Who is mixed with whom, int64 [B], and the weights, float32: [B] where each image has its own, else [1]."""
    return partners(batch), beta(alpha, len(batch) if per == "image" else 1, batch.device)


def mix(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """weight · a + (1 − weight) · b. a, b [B, …]; weight [B] or [1]."""
    weight = weight.view(-1, *[1] * (a.dim() - 1))
    return weight * a + (1 - weight) * b


def sharpen(probs: Tensor, temperature: float) -> Tensor:
    """p^{1/T} over its sum: T < 1 moves [B, K] toward its largest class, T = 1 leaves it. Does not underflow."""
    powers = (probs / probs.amax(dim=1, keepdim=True)).pow(1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


@torch.no_grad()
def guess(student: nn.Module, images: Tensor, *, moves_statistics: bool) -> Tensor:
    """The student's probabilities without gradient, float32 [B, K]; in training mode by batch statistics.

    Unless moves_statistics, its running BatchNorm statistics stay.
    """
    with nullcontext() if moves_statistics else freeze_running_stats(student):
        return student(images).float().softmax(dim=1)

"""Perturbations of a feature map z, [B, C, H, W] (Ouali et al. 2020, arXiv 2003.09005).

Each takes z and the linear head on its mean over positions, which only `adversarial` uses, and returns a map like z.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meanteacher.config.types import Literal

DrawPer = Literal["image", "batch"]


def _draws(z: Tensor, per: DrawPer) -> int:
    return len(z) if per == "image" else 1


def noise(z: Tensor, head: nn.Linear, *, width: float, per: DrawPer) -> Tensor:
    """z(1 + n) with n ~ U(−width, width) for each value, drawn for each image, or once for all images of the batch."""
    uniform = torch.rand(_draws(z, per), *z.shape[1:], device=z.device)
    return z * (1 + width * (2 * uniform - 1))


def drop(z: Tensor, head: nn.Linear, *, low: float, high: float, per: DrawPer) -> Tensor:
    """Set positions to 0 where the mean over channels is at least γ times the image's maximum of it.

    γ ~ U(low, high), drawn for each image, or once for all images of the batch.
    """
    attention = z.detach().float().mean(dim=1, keepdim=True)
    gamma = low + (high - low) * torch.rand(_draws(z, per), 1, 1, 1, device=z.device)
    return z * (attention < gamma * attention.amax((2, 3), keepdim=True))


def drop_channels(z: Tensor, head: nn.Linear, *, probability: float) -> Tensor:
    """Set whole channels of an image to 0 with this probability; divide the others by 1 − probability."""
    keep = torch.rand(*z.shape[:2], 1, 1, device=z.device) >= probability
    return z * (keep / (1 - probability))


def cutout(z: Tensor, head: nn.Linear, *, side: float) -> Tensor:
    """Set a randomly placed rectangle of round(side · h) by round(side · w) positions, at least 1 by 1, to 0."""
    inside = torch.ones((), dtype=torch.bool, device=z.device)
    for size, shape in zip(z.shape[2:], ((-1, 1), (-1,)), strict=True):
        length = max(round(side * size), 1)
        start = (torch.rand(len(z), 1, 1, 1, device=z.device) * (size - length + 1)).long()
        position = torch.arange(size, device=z.device).view(shape)
        inside = inside & (position >= start) & (position < start + length)
    return z * ~inside


def adversarial(z: Tensor, head: nn.Linear, *, xi: float, epsilon: float) -> Tensor:
    """z + εg/|g|, where g is the gradient of KL(p(z) ‖ p(z + ξd)) in d, d is Gaussian with |d| = 1, and p is by `head`.

    Since the head is linear in the mean over the h · w positions, g = Wᵀ(p(z + ξd) − p(z)) / hw at each of them, which
    is computed in float32 whatever the precision of the step. g carries no gradient.
    """
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        d = F.normalize(torch.randn_like(z, dtype=torch.float32).flatten(1), dim=1).view(z.shape).mean((2, 3))
        mean = z.float().mean((2, 3))
        change = head(mean + xi * d).softmax(dim=1) - head(mean).softmax(dim=1)
        positions = z.shape[2] * z.shape[3]
        r = epsilon * F.normalize(change @ head.weight, dim=1) / positions**0.5
    return z + r[:, :, None, None]

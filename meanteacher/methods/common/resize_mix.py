"""ResizeMix (Qin et al. 2020, arXiv 2012.11101): a small copy of one image replaces a rectangle of another."""

import torch
from torch import Tensor

from meanteacher.methods.common import mixup

SMALLEST, LARGEST = 0.1, 0.8
"""Bounds of the side of the rectangle, as a fraction of the image's."""

CROPPED = 0.9
"""The central fraction of the sides of the other image that is pasted."""


def draw_scales(alpha: float, count: int, device: torch.device) -> Tensor:
    """Sides of rectangles relative to the image's, .1 + .7 √b with b from Beta(alpha, alpha): float32 [count]."""
    return SMALLEST + (LARGEST - SMALLEST) * mixup.draw_beta(alpha, count, device).sqrt()


def draw_interval(scale: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Start and end, int64 [B], of 2 · ⌊scale · length / 2⌋ pixels around a random one, cut off at the border."""
    center = (torch.rand(len(scale), device=scale.device) * length).long()
    half = (scale * length).long() // 2
    return (center - half).clamp(min=0), (center + half).clamp(max=length)


def source(start: Tensor, end: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Where the positions of a side come from, as the center of the other image is scaled to an interval.

    start, end: of the interval, int64 [B]. Returns whether a position is inside, bool [B, length], and the nearest
    position in the other image, int64 [B, length], which means nothing outside.
    """
    position, center = torch.arange(length, device=start.device), int(CROPPED * length)
    scaled = (position - start[:, None]) * center // (end - start).clamp(min=1)[:, None]
    inside = (position >= start[:, None]) & (position < end[:, None])
    return inside, ((length - center) // 2 + scaled).clamp(0, length - 1)


def resize_mix(images: Tensor, others: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Each image with the center of another one in a rectangle at a random place, and the fraction that is its own.

    images, others: float32 [B, C, H, W]; scale: float32 [B], from `draw_scales`. Returns [B, C, H, W] and float32 [B].
    """
    height, width = images.shape[2:]
    rows, columns = draw_interval(scale, height), draw_interval(scale, width)
    (in_row, row), (in_column, column) = source(*rows, height), source(*columns, width)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    pasted = others[image, :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
    inside = in_row[:, None, :, None] & in_column[:, None, None, :]
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    return torch.where(inside, pasted, images), 1 - area / (height * width)

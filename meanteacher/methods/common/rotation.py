"""Rotation by quarter turns, to be predicted without labels (Gidaris et al. 2018, arXiv 1803.07728)."""

import torch
from torch import Tensor


def draw_quarter_turns(images: Tensor) -> Tensor:
    """A random number of quarter turns, 0 to 3, for each image; int64 [B]."""
    return torch.randint(4, (len(images),), device=images.device)


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Square images [B, C, H, H], each turned counterclockwise by its number of quarter turns, int64 [B]."""
    rotations = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])
    return rotations[turns, torch.arange(len(images), device=images.device)]

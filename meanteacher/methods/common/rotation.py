"""Quarter turns, which a network can learn to tell without labels (Gidaris et al. 2018, arXiv 1803.07728)."""

import torch
from torch import Tensor


def quarters(images: Tensor) -> Tensor:
    """A random number of quarter turns, 0 to 3, for each image: int64 [B]."""
    return torch.randint(4, (len(images),), device=images.device)


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Each square image turned counterclockwise by its own number of quarter turns."""
    four = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])
    return four[turns, torch.arange(len(images), device=images.device)]

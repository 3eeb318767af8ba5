"""Operations on the feature maps of a network, [B, C, h, w]."""

import torch
from torch import Tensor


def average_cells(maps: Tensor, side: int) -> Tensor:
    """Feature maps [B, C, h, w] averaged in side × side cells: [B, C, side, side].

    The values of `torch.nn.functional.adaptive_avg_pool2d`, whose backward pass on a GPU is not deterministic.
    """
    rows, columns = (cell_weights(size, side, maps) for size in maps.shape[2:])
    return rows @ maps @ columns.T


def cell_weights(size: int, side: int, like: Tensor) -> Tensor:
    """The share of each of `size` positions in each of `side` cells, [side, size]. Cells of uneven size overlap."""
    cell, position = torch.arange(side, device=like.device)[:, None], torch.arange(size, device=like.device)
    inside = (position >= cell * size // side) & (position < ((cell + 1) * size + side - 1) // side)
    return (inside / inside.sum(dim=1, keepdim=True)).to(like.dtype)

"""One forward pass over several batches."""

import torch
from torch import Tensor, nn


def joint_forward(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """The network's logits for each batch of images [B, C, H, W], from one pass, so they share batch-norm statistics."""
    return network(torch.cat(batches)).split([len(batch) for batch in batches])

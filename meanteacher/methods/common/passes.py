"""Forward passes over several batches of images at once."""

import torch
from torch import Tensor, nn

from meanteacher.data.batch import Labeled, Unlabeled


def predict_together(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """The network's logits of each batch, [B_i, K], from one forward pass: all batches share BatchNorm statistics."""
    return network(torch.cat(batches)).split([len(batch) for batch in batches])


def second_views(labeled: Labeled, unlabeled: Unlabeled, on_labeled: bool) -> Tensor:
    """The second views of the images in a consistency term: the labeled images' first if `on_labeled`."""
    return torch.cat([labeled.views[1], unlabeled.views[1]]) if on_labeled else unlabeled.views[1]

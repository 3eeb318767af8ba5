"""Forward passes over several batches of images at once."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.models.batch_norm import freeze_running_stats

Passes = Literal["together", "separate"]


def predict_together(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """The network's logits of each batch, [B_i, K], from one forward pass: all batches share BatchNorm statistics."""
    return network(torch.cat(batches)).split([len(batch) for batch in batches])


def predict_labeled_and_unlabeled(
    network: nn.Module, labeled: Tensor, unlabeled: Tensor, passes: Passes
) -> tuple[Tensor, Tensor]:
    """The network's logits of labeled and unlabeled images: [B_l, K] and [B_u, K].

    passes: `together`, in one pass, so that both share BatchNorm statistics; `separate`, in two passes, of which only
    that of the labeled images updates the running statistics.
    """
    if passes == "together":
        return predict_together(network, labeled, unlabeled)
    logits = network(labeled)
    with freeze_running_stats(network):
        return logits, network(unlabeled)


def second_views(labeled: Labeled, unlabeled: Unlabeled, on_labeled: bool) -> Tensor:
    """The second views of the images in a consistency term: the labeled images' first if `on_labeled`."""
    return torch.cat([labeled.views[1], unlabeled.views[1]]) if on_labeled else unlabeled.views[1]

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


def predict_interleaved(network: nn.Module, images: Tensor, batches: int) -> Tensor:
    """The network's logits of images [B, …], [B, K], from a pass for each of `batches` interleaved sub-batches.

    Sub-batch i holds the images i, i + batches, i + 2·batches, …, so each is a mixture like the whole. Every one is
    normalized by its own statistics; the first updates the running statistics, as in google-research/mixmatch
    (mixmatch.py, 77bf67d).
    """
    order = torch.cat([torch.arange(start, len(images), batches, device=images.device) for start in range(batches)])
    logits = [network(images[::batches])]
    with freeze_running_stats(network):
        logits += [network(images[start::batches]) for start in range(1, batches)]
    return torch.cat(logits)[order.argsort()]


def second_views(labeled: Labeled, unlabeled: Unlabeled, on_labeled: bool) -> Tensor:
    """The second views of the images in a consistency term: the labeled images' first if `on_labeled`."""
    return torch.cat([labeled.views[1], unlabeled.views[1]]) if on_labeled else unlabeled.views[1]

"""How much one step on some images would improve a network on others."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meanteacher.methods.common.adversarial import disable_dropout
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.models.batch_norm import freeze_running_stats


@torch.compiler.disable  # a gradient is computed, and the network is called with other weights
def improvement(
    network: nn.Module, images: Tensor, targets: Tensor, others: Tensor, labels: Tensor, *, rate: float
) -> Tensor:
    """Mean CE on `others` before minus after a gradient step on the mean CE on `images`; 0-dim float32, no gradient.

    The step is θ − rate · ∇, without momentum and weight decay, and is not taken. To the first order, the result is
    rate · ⟨∇ CE on images, ∇ CE on others⟩. images, others: [B, C, H, W] each; targets: probabilities [B, K]; labels:
    int64 [B]. Leaves gradients and running statistics as they are, and draws no dropout.
    """
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with freeze_running_stats(network), disable_dropout(network):
        loss = cross_entropy(network(images), targets).mean()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            moved = {name: p - rate * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
            before, after = network(others), functional_call(network, moved, (others,))
            return (cross_entropy(before, labels) - cross_entropy(after, labels)).mean()

"""Losses per sample, in float32. Methods reduce them, so that masks and weights are visible in the method."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """−log softmax(logits)[target]. logits [B, K], target int64 [B] → [B]."""
    return F.cross_entropy(logits.float(), target, reduction="none")


def one_hot(target: Tensor, classes: int) -> Tensor:
    """int64 [B] → float32 [B, K], without the host–device synchronization of torch.nn.functional.one_hot."""
    zeros = torch.zeros(len(target), classes, device=target.device)
    return zeros.scatter(1, target.unsqueeze(1), 1.0)


def softmax_mse(logits: Tensor, target_logits: Tensor) -> Tensor:
    """Mean over classes of the squared difference of probabilities, Mean Teacher's consistency. [B, K] twice → [B].

    Tarvainen & Valpola 2017 (arXiv 1703.01780), section 2, J(θ). The target carries no gradient.
    """
    return softmax_mse_both(logits, target_logits.detach())


def softmax_kl(logits: Tensor, target_logits: Tensor) -> Tensor:
    """KL(softmax(target) ‖ softmax(logits)), summed over classes. [B, K] twice → [B]. The target has no gradient."""
    target = target_logits.detach().float().log_softmax(dim=1)
    return F.kl_div(logits.float().log_softmax(dim=1), target, reduction="none", log_target=True).sum(dim=1)


def softmax_mse_both(logits: Tensor, others: Tensor) -> Tensor:
    """`softmax_mse` with a gradient to both arguments. [B, K] twice → [B]."""
    return (logits.float().softmax(dim=1) - others.float().softmax(dim=1)).square().mean(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """−Σ p log p with p = softmax(logits), in nats. [B, K] → [B]."""
    log_p = logits.float().log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


CONSISTENCY = {"mse": softmax_mse, "kl": softmax_kl}
"""The distances of a consistency term by name; the second argument is the target."""

"""Batch normalization layers by name."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PSBatchNorm2d(nn.BatchNorm2d):
    """Batch norm plus a constant α: BN(x) + α (positively shifted batch norm, USB's and the TensorFlow WRN's `PSBatchNorm`)."""

    def __init__(self, features: int, *, alpha: float, momentum: float, eps: float):
        super().__init__(features, momentum=momentum, eps=eps)
        self.alpha = alpha

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.alpha


class MeanOnlyBatchNorm(_BatchNorm):
    """x − mean(x) + b over batch and positions, for weight-normalized layers (Salimans & Kingma 2016, arXiv 1602.07868).

    [B, C] or [B, C, H, W]. In evaluation mode the running mean stands for the batch's. b: a learned value per channel.
    """

    def __init__(self, features: int, *, momentum: float):
        super().__init__(features, momentum=momentum, affine=False)
        self.running_var = None
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.running_mean
        if self.training:
            mean = x.float().mean([0, *range(2, x.ndim)])
            if self.track_running_stats:
                self.running_mean.lerp_(mean.detach(), self.momentum)
                self.num_batches_tracked.add_(1)
        return x + (self.bias - mean).to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))


def layer(*, momentum: float, eps: float, shift: float):
    """A constructor features → layer; shift ≠ 0 gives `PSBatchNorm2d` with α = shift. momentum: PyTorch's convention."""
    if shift:
        return partial(PSBatchNorm2d, alpha=shift, momentum=momentum, eps=eps)
    return partial(nn.BatchNorm2d, momentum=momentum, eps=eps)


@contextmanager
def switched_off(model: nn.Module, kind: type[nn.Module], flag: str) -> Iterator[None]:
    """The flag of the model's layers of this kind is False, and afterwards as before."""
    layers = [m for m in model.modules() if isinstance(m, kind) and getattr(m, flag)]
    for layer in layers:
        setattr(layer, flag, False)
    try:
        yield
    finally:
        for layer in layers:
            setattr(layer, flag, True)


def freeze_running_stats(model: nn.Module) -> AbstractContextManager[None]:
    """Leaves the running statistics and their counters alone. In training mode each batch is normalized by its own as before."""
    return switched_off(model, _BatchNorm, "track_running_stats")


def remaining_initial_stats(model: nn.Module, steps: int) -> float:
    """How much of the initial running statistics is left after `steps` updates: max over layers of (1 − momentum)^steps."""
    momenta = [m.momentum for m in model.modules() if isinstance(m, _BatchNorm) and m.momentum is not None]
    return max(((1 - m) ** steps for m in momenta), default=0.0)


def sufficient_momentum(steps: int, share: float) -> float:
    """The smallest momentum of the form k·10^n that leaves at most `share` of the initial statistics after `steps` updates."""
    exact = 1 - share ** (1 / steps)
    scale = 10.0 ** math.floor(math.log10(exact))
    return min(1.0, math.ceil(exact / scale) * scale)

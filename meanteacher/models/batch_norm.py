"""Batch normalization layers and the handling of their running statistics."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class PSBatchNorm2d(nn.BatchNorm2d):
    """Positively shifted batch norm, BN(x) + α, which USB and FixMatch's code for TensorFlow use in their WideResNets."""

    def __init__(self, features: int, *, alpha: float, momentum: float, eps: float):
        super().__init__(features, momentum=momentum, eps=eps)
        self.alpha = alpha

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.alpha


class MeanOnlyBatchNorm(nn.BatchNorm1d):
    """x − mean(x) + b for weight-normalized layers (Salimans & Kingma 2016, arXiv 1602.07868). x: [B, C] or [B, C, H, W].

    The mean runs over batch and positions; evaluation mode uses the running mean. b is a learned value per channel.
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


def norm_layer(*, momentum: float, eps: float, shift: float) -> Callable[[int], nn.BatchNorm2d]:
    """A constructor that takes the number of channels. momentum: PyTorch's convention; shift: α of `PSBatchNorm2d`, or 0."""
    if shift:
        return partial(PSBatchNorm2d, alpha=shift, momentum=momentum, eps=eps)
    return partial(nn.BatchNorm2d, momentum=momentum, eps=eps)


@contextmanager
def disable_flag(model: nn.Module, kinds: tuple[type[nn.Module], ...], flag: str) -> Iterator[None]:
    """Within the context, the flag is False in all layers of these kinds; afterwards it has its old value."""
    layers = [module for module in model.modules() if isinstance(module, kinds) and getattr(module, flag)]
    for layer in layers:
        setattr(layer, flag, False)
    try:
        yield
    finally:
        for layer in layers:
            setattr(layer, flag, True)


def freeze_running_stats(model: nn.Module) -> AbstractContextManager[None]:
    """Within the context, forward passes update no running statistics. Training mode still normalizes by batch statistics."""
    return disable_flag(model, BATCH_NORMS, "track_running_stats")


def remaining_initial_stats(model: nn.Module, steps: int) -> float:
    """The fraction of the initial running statistics that is left after `steps` updates: max over layers of (1 − m)^steps."""
    momenta = [m.momentum for m in model.modules() if isinstance(m, BATCH_NORMS) and m.momentum is not None]
    return max(((1 - momentum) ** steps for momentum in momenta), default=0.0)


def sufficient_momentum(steps: int, share: float) -> float:
    """The smallest momentum of the form k · 10^n that leaves at most `share` of the initial statistics after `steps` updates."""
    exact = 1 - share ** (1 / steps)
    scale = 10.0 ** math.floor(math.log10(exact))
    return min(1.0, math.ceil(exact / scale) * scale)

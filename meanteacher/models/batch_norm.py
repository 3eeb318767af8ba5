"""Batch normalization layers, and functions on the running statistics of a network."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PSBatchNorm2d(nn.BatchNorm2d):
    """Positively shifted batch norm: BN(x) + alpha for x of shape [B, C, H, W], with a constant alpha.

    arXiv 2001.11216. TorchSSL (models/nets/wrn.py, 99cf3eb) and USB 0.3.2 (nets/wrn/wrn.py) define it beside their
    WideResNet, which does not use it. `momentum` follows PyTorch's convention.
    """

    def __init__(self, features: int, *, alpha: float, momentum: float, eps: float):
        super().__init__(features, momentum=momentum, eps=eps)
        self.alpha = alpha

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.alpha


class MeanOnlyBatchNorm(_BatchNorm):
    """Mean-only batch norm for weight-normalized layers (Salimans & Kingma 2016, arXiv 1602.07868): x − mean(x) + b.

    The mean is taken per channel over the batch and all positions of x, which has shape [B, C] or [B, C, H, W]; in
    evaluation mode the running mean is used instead. b is a learned bias per channel.
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


def batch_norm_constructor(*, momentum: float, eps: float, shift: float) -> Callable[[int], nn.BatchNorm2d]:
    """A function from the number of channels to a new layer: `PSBatchNorm2d` with alpha = shift, or, if shift is 0,
    `torch.nn.BatchNorm2d`. `momentum` follows PyTorch's convention: the weight of the newest batch.
    """
    if shift:
        return partial(PSBatchNorm2d, alpha=shift, momentum=momentum, eps=eps)
    return partial(nn.BatchNorm2d, momentum=momentum, eps=eps)


@contextmanager
def disable_flag(model: nn.Module, kind: type[nn.Module], flag: str) -> Iterator[None]:
    """Set the attribute `flag` to False in all layers of type `kind` for the duration of the context."""
    layers = [module for module in model.modules() if isinstance(module, kind) and getattr(module, flag)]
    for layer in layers:
        setattr(layer, flag, False)
    try:
        yield
    finally:
        for layer in layers:
            setattr(layer, flag, True)


def freeze_running_stats(model: nn.Module, frozen: bool = True) -> AbstractContextManager[None]:
    """Keep the running statistics and their counters unchanged for the duration of the context, if `frozen`.

    In training mode each batch is still normalized by its own statistics.
    """
    return disable_flag(model, _BatchNorm, "track_running_stats") if frozen else nullcontext()


def remaining_initial_stats(model: nn.Module, steps: int) -> float:
    """The weight of the initial values in the running statistics after `steps` updates, between 0 and 1.

    This is the maximum of (1 − momentum)^steps over the batch norm layers in training mode, and 0 without any.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [layer.momentum for layer in layers if layer.momentum is not None]
    return max(((1 - momentum) ** steps for momentum in momenta), default=0.0)


def sufficient_momentum(steps: int, share: float) -> float:
    """The smallest momentum with one significant digit for which at most `share` of the initial statistics remains.

    steps: the number of updates; share: between 0 and 1, exclusive.
    """
    exact = 1 - share ** (1 / steps)
    scale = 10.0 ** math.floor(math.log10(exact))
    return min(1.0, math.ceil(exact / scale) * scale)

"""Batch normalization layers by name."""

from functools import partial

from torch import Tensor, nn


class PSBatchNorm2d(nn.BatchNorm2d):
    """Batch norm plus a constant α: BN(x) + α (positively shifted batch norm, USB's and the TensorFlow WRN's `PSBatchNorm`)."""

    def __init__(self, features: int, *, alpha: float, momentum: float, eps: float):
        super().__init__(features, momentum=momentum, eps=eps)
        self.alpha = alpha

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.alpha


def layer(*, momentum: float, eps: float, shift: float):
    """A constructor features → layer; shift ≠ 0 gives `PSBatchNorm2d` with α = shift. momentum: PyTorch's convention."""
    if shift:
        return partial(PSBatchNorm2d, alpha=shift, momentum=momentum, eps=eps)
    return partial(nn.BatchNorm2d, momentum=momentum, eps=eps)


def share_of_initial_statistics(model: nn.Module, steps: int) -> float:
    """How much of the initial running statistics is left after `steps` updates: max over layers of (1 − momentum)^steps."""
    momenta = [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.momentum is not None]
    return max(((1 - m) ** steps for m in momenta), default=0.0)

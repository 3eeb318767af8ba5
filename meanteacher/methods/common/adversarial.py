"""The direction in which a small step changes a prediction most (Miyato et al. 2018, arXiv 1704.03976, section 3.3)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from meanteacher.methods.common.losses import softmax_kl
from meanteacher.models import batch_norm


@torch.compiler.disable(recursive=False)  # the gradient is taken outside of the compiled code, the passes are in it
def direction(student: nn.Module, images: Tensor, *, xi: float, iterations: int) -> Tensor:
    """d / |d| for each image, float32. Running statistics and the weights' gradients are left as they are."""
    d = unit(torch.randn_like(images))
    with batch_norm.freeze_running_stats(student), full_float32(images.device):
        with torch.no_grad():
            clean = student(images)
        for _ in range(iterations):
            r = (xi * d).requires_grad_()
            (gradient,) = torch.autograd.grad(softmax_kl(student(images + r), clean).sum(), r)
            d = unit(gradient)
    return d


def unit(d: Tensor) -> Tensor:
    """Each image's d / |d|; 0 stays 0."""
    return F.normalize(d.flatten(1), dim=1).view_as(d)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """No autocast, and on a GPU no TensorFloat-32 in convolutions, whose 10 bits would lose ξd as well."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


def no_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Dropout layers pass everything, and are as before afterwards."""
    return batch_norm.switched_off(model, _DropoutNd, "training")

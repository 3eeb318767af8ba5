"""The direction in which a small step changes a prediction most (Miyato et al. 2018, arXiv 1704.03976, section 3.3)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meanteacher.methods.common.losses import softmax_kl
from meanteacher.models.batch_norm import disable_flag, freeze_running_stats

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@torch.compiler.disable(recursive=False)  # the gradient is computed outside of compiled code, the forward passes inside
def adversarial_direction(student: nn.Module, images: Tensor, *, xi: float, iterations: int) -> Tensor:
    """d / |d| for each image, float32 [B, C, H, W]. Changes neither running statistics nor gradients of the weights.

    images: [B, C, H, W]; xi: length of the finite difference; iterations: of the power method.
    """
    d = unit(torch.randn_like(images))
    with freeze_running_stats(student), full_float32(images.device):
        with torch.no_grad():
            clean = student(images)
        for _ in range(iterations):
            r = (xi * d).requires_grad_()
            (gradient,) = torch.autograd.grad(softmax_kl(student(images + r), clean).sum(), r)
            d = unit(gradient)
    return d


def unit(d: Tensor) -> Tensor:
    """d / |d| for each image; 0 stays 0."""
    return F.normalize(d.flatten(1), dim=1).view_as(d)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Within the context, no autocast and no TensorFloat-32 in convolutions, whose 10 bits would round ξd away."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def disable_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Within the context, the model's dropout layers are in evaluation mode."""
    return disable_flag(model, DROPOUTS, "training")

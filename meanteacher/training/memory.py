"""Checks before the first step whether it can fit into memory: the system may kill a process that uses all of it."""

import copy
import math

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.faults import MEMORY_ADVICE
from meanteacher.methods.base import Method
from meanteacher.training.device import total_memory

BYTES = 4
"""Of a float32 value."""

LEAST_KEPT = 1 / 4
"""A step keeps at least half of all activations for its gradient, and in bf16 each takes half of its bytes."""

NEGLIGIBLE = 0.01
"""A step is not checked if its images take less than this share of the memory."""


def check_memory(method: Method, shape: tuple[int, int, int], labeled: int, unlabeled: int) -> None:
    """Raise UserError if the images of a step and the activations that its gradient needs exceed all of the memory.

    shape: [C, H, W] of the images. labeled, unlabeled: images in a step. The estimate is a lower bound, so that no run
    is refused that could train.
    """
    device = next((parameter.device for parameter in method.parameters()), torch.device("cpu"))
    images = labeled * len(method.views.labeled) + unlabeled * len(method.views.unlabeled)
    pixels = images * BYTES * math.prod(shape)
    total = total_memory(device)
    if pixels < NEGLIGIBLE * total:
        return
    needed = pixels
    if needed <= total:
        needed += images * LEAST_KEPT * activation_bytes(method.student, shape, device)
    if needed > total:
        sizes = f"{needed / 2**30:,.0f} GiB or more, of {total / 2**30:,.0f} GiB"
        raise UserError(f"the {images} images of a step take {sizes}: {MEMORY_ADVICE}")


def activation_bytes(network: nn.Module, shape: tuple[int, int, int], device: torch.device) -> int:
    """The bytes of all layers' outputs for one image, in float32. No random numbers are drawn."""
    sizes: list[int] = []

    def add(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * BYTES)

    measured = copy.deepcopy(network).eval()
    for module in measured.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(add)
    with torch.no_grad():
        measured(torch.zeros(1, *shape, device=device))
    return sum(sizes)

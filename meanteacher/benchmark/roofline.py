"""The roofline bound of a step: its operations and bytes over the rates of the device, both measured here.

Williams et al. 2009, "Roofline: an insightful visual performance model for multicore architectures". Only convolutions
and matrix products are counted, each with the bytes that it must read and write once; everything else is assumed to be
fused into them at no cost. It is a lower bound of the time, not a prediction.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from meanteacher.benchmark.timing import time_seconds

TRIES = 7
"""Measurements of each rate, of which the fastest counts."""


class OperationCounter(TorchDispatchMode):
    """Records the floating-point operations and bytes of each convolution and matrix product.

    `torch.utils.flop_counter.FlopCounterMode` counts the same operations by the same formulas, but only in total; the
    bound needs both numbers for each call.
    """

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.calls.append((flops, sum(tensor.numel() * tensor.element_size() for tensor in tensors)))
        return out


def measure_rates(device: torch.device, precision: str) -> tuple[float, float]:
    """Floating-point operations per second of a matrix product, and bytes per second of a copy."""
    on_gpu = device.type == "cuda"
    side, count = (8192, 2**28) if on_gpu else (2048, 2**26)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    multiply_seconds = min(time_seconds(device, lambda: torch.mm(left, right, out=product)) for _ in range(TRIES))
    copy_seconds = min(time_seconds(device, lambda: target.copy_(source)) for _ in range(TRIES))
    return 2 * side**3 / multiply_seconds, 2 * source.element_size() * count / copy_seconds


def bound(step: Callable[[], None], device: torch.device, precision: str) -> dict:
    """The least seconds that `step()` can take, where each operation is bound by arithmetic or by memory.

    Also the numbers that it follows from, and the share of it in which memory is the limit.
    """
    step()
    with OperationCounter() as counter:
        step()
    flop_rate, byte_rate = measure_rates(device, precision)
    seconds = [(flops / flop_rate, size / byte_rate) for flops, size in counter.calls]
    total = sum(map(max, seconds))
    return {
        "seconds": total,
        "flops": sum(flops for flops, _ in counter.calls),
        "bytes": sum(size for _, size in counter.calls),
        "flops_per_second": flop_rate,
        "bytes_per_second": byte_rate,
        "share_bound_by_memory": sum(memory for arithmetic, memory in seconds if memory > arithmetic) / total,
    }

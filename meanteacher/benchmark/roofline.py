"""What a device could do at best: a step's floating-point operations and bytes, counted, over rates measured here.

Only convolutions and matrix products are counted, each with the bytes it must read and write once: all else is taken as fused
into them, at no cost. So it is a bound, not a forecast.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from meanteacher.benchmark.timing import timed

TRIES = 7


class Count(TorchDispatchMode):
    """(floating-point operations, bytes) of each convolution and matrix product, as they are called."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.found.append((flops, sum(tensor.numel() * tensor.element_size() for tensor in tensors)))
        return out


def rates(device: torch.device, precision: str) -> tuple[float, float]:
    """The best of a few tries: floating-point operations a second of a matrix product, bytes a second of a copy."""
    gpu = device.type == "cuda"
    side, count = (8192, 2**28) if gpu else (2048, 2**26)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, two = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(one)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    flops = min(timed(device, lambda: torch.mm(one, two, out=product)) for _ in range(TRIES))
    copied = min(timed(device, lambda: target.copy_(source)) for _ in range(TRIES))
    return 2 * side**3 / flops, 2 * 4 * count / copied


def bound(step, device: torch.device, precision: str) -> dict:
    """The seconds that `step()` takes at least, each operation bound by arithmetic or by memory, and what they follow from."""
    step()
    with Count() as count:
        step()
    flop_rate, byte_rate = rates(device, precision)
    seconds = [(flops / flop_rate, size / byte_rate) for flops, size in count.found]
    return {
        "seconds": sum(map(max, seconds)),
        "flops": sum(flops for flops, _ in count.found),
        "bytes": sum(size for _, size in count.found),
        "flops_per_second": flop_rate,
        "bytes_per_second": byte_rate,
        "share_bound_by_memory": sum(memory for work, memory in seconds if memory > work) / sum(map(max, seconds)),
    }

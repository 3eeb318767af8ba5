"""Seconds of work on a device."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until it returns or an InterruptedError ends it, with the device idle before and after."""
    torch.get_device_module(device).synchronize()
    began = time.perf_counter()
    with suppress(InterruptedError):
        work()
    torch.get_device_module(device).synchronize()
    return time.perf_counter() - began

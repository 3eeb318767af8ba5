"""The time that work on a device takes."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch


def time_seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until `work()` has returned or raised InterruptedError and the device, idle before, has finished."""
    torch.get_device_module(device).synchronize()
    started = time.perf_counter()
    with suppress(InterruptedError):
        work()
    torch.get_device_module(device).synchronize()
    return time.perf_counter() - started

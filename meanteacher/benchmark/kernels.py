"""Which kernels take the time of a step, and how long the device is idle between them."""

import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from meanteacher.benchmark.timing import time_seconds

KERNELS = 10
"""The number of kernels that are listed."""


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Within the context, discard the standard error output of C++ libraries."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def profile(work: Callable[[], object], device: torch.device, steps: int) -> dict:
    """Profile `work()`, which takes `steps` steps: its most expensive `kernels` per step, and the `gaps` between them.

    gaps: see `measure_gaps`. On a CPU, `kernels` lists operators by their self time, and `gaps` is None.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with silence_stderr(), torch.profiler.profile(activities=activities) as profiler:
        time_seconds(device, work)
    averages, gaps = profiler.key_averages(), None
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    if on_gpu:
        averages = list(filter(ran_on_gpu, averages))
        ranges = [event.time_range for event in profiler.events() if ran_on_gpu(event)]
        gaps = measure_gaps((each.start, each.end) for each in ranges)
    averages = sorted(averages, key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in averages)
    rows = [
        {
            "name": event.key,
            "calls": event.count / steps,
            "ms": getattr(event, key) / 1e3 / steps,
            "share": getattr(event, key) / total,
        }
        for event in averages[:KERNELS]
    ]
    return {"kernels": rows, "gaps": gaps}


def ran_on_gpu(event: torch.autograd.profiler_util.FunctionEvent) -> bool:
    """Whether an event of the profiler is a kernel or a copy.

    The operator or the graph launch that started it has the same device time once more, and an annotation encloses it.
    """
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation


def measure_gaps(intervals: Iterable[tuple[float, float]]) -> dict:
    """Statistics of the gaps between the intervals in which a device was busy.

    intervals: start and end in µs; they may overlap. Returns the number of gaps, their share of the whole time, the
    median and the longest.
    """
    (start, end), *others = sorted(intervals)
    first, gaps = start, []
    for start, stop in others:
        if start > end:
            gaps.append(start - end)
        end = max(end, stop)
    return {
        "count": len(gaps),
        "share_idle": sum(gaps) / (end - first),
        "median_us": statistics.median(gaps) if gaps else 0.0,
        "longest_us": max(gaps, default=0.0),
    }

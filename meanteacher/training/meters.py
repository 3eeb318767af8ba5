"""Measurements during training: means of the step's metrics, and the training time."""

import time

import torch
from torch import Tensor


class Meter:
    """Accumulates metrics on the device and copies all of their means to the host at once.

    `add` works in place and without host–device synchronization, so it can be part of a CUDA graph. A replay of the
    graph runs no Python code, so the caller increments `count` after each step.
    """

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.first_bad_step: Tensor | None = None

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add the metrics of one step, detached 0-dim tensors, to their sums."""
        for name, value in metrics.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=value.device)
            self.sums[name].add_(value)

    def watch(self, step: Tensor, loss: Tensor) -> None:
        """Remember the first step whose loss is not finite. step, loss: 0-dim tensors on the device."""
        if self.first_bad_step is None:
            self.first_bad_step = torch.full((), torch.inf, device=loss.device)
        self.first_bad_step.copy_(self.first_bad_step.minimum(torch.where(loss.isfinite(), torch.inf, step)))

    def bad_step(self) -> int | None:
        """The first step of this process whose loss was not finite, counted from 0. Waits for the device."""
        first = torch.inf if self.first_bad_step is None else self.first_bad_step.item()
        return int(first) if first < torch.inf else None

    def means(self) -> dict[str, float]:
        """The mean of each metric since the previous call. Waits for the device and resets the sums."""
        means = (torch.stack(list(self.sums.values())) / self.count).tolist()
        self.count = 0
        for total in self.sums.values():
            total.zero_()
        return dict(zip(self.sums, means, strict=True))

    def state_dict(self) -> dict:
        """The sums and the count, for a checkpoint between two logs."""
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Continue from the sums and the count of a checkpoint."""
        self.sums, self.count = state["sums"], state["count"]


class Stopwatch:
    """Accumulates the seconds between `start` and `stop`, over all attempts of a run."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.started = device, 0.0, None

    def start(self) -> None:
        """Start or continue counting."""
        self.started = time.perf_counter()

    def stop(self) -> None:
        """Stop counting after the device has finished its work."""
        if self.started is None:
            return
        torch.get_device_module(self.device).synchronize()
        self.seconds, self.started = self.seconds + time.perf_counter() - self.started, None

    def read(self) -> float:
        """The seconds so far. Waits for the device if the stopwatch is running."""
        if self.started is not None:
            self.stop()
            self.start()
        return self.seconds

"""What a run measures of itself while it trains: means of the step's metrics, and time."""

import time

import torch
from torch import Tensor


class Meter:
    """Sums of 0-dim tensors on the device, kept in place, read in one copy when their means are asked for.

    `add` is all on the device, so that a CUDA graph can hold it; who calls it raises `count` by one.
    """

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=value.device)
            self.sums[name].add_(value)

    def means(self) -> dict[str, float]:
        """Means since they were last asked for."""
        values = (torch.stack(list(self.sums.values())) / self.count).tolist()
        self.count = 0
        for total in self.sums.values():
            total.zero_()
        return dict(zip(self.sums, values, strict=True))

    def state_dict(self) -> dict:
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.sums, self.count = state["sums"], state["count"]


class Stopwatch:
    """Seconds spent training: those between `start` and `stop`, over all attempts."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.began = device, 0.0, None

    def start(self) -> None:
        self.began = time.perf_counter()

    def stop(self) -> None:
        """Waits for the device first."""
        if self.began is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds, self.began = self.seconds + time.perf_counter() - self.began, None

    def read(self) -> float:
        if self.began is not None:
            self.stop()
            self.start()
        return self.seconds


def duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours > 1 / 60 else f"{hours * 3600:.0f} s"

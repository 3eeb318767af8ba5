"""Our step in a process of its own, as a run would take it."""

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile

from meanteacher.benchmark import NAMES, Variant, roofline
from meanteacher.benchmark.timing import timed
from meanteacher.config.settings import Choices, Settings
from meanteacher.loggers.progress import Progress
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training.device import autocast
from meanteacher.training.eta import WARMUP_STEPS

PARTS = ("data", "augmentation", "forward+backward", "optimizer", "EMA")
"""Of a step; what is left is `rest`: seeds, learning rate, sums of metrics."""

KERNELS = 15


@contextmanager
def silent():
    """Without what C++ writes to stderr."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class Stop(Progress):
    """Ends `fit()` at its first log, before it would evaluate or save."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        raise InterruptedError


class Ours:
    def __init__(self, settings: Settings, names: dict, variant: Variant):
        trainer = settings.trainer.model_dump() | {"precision": variant.precision, "compile": variant.compile}
        self.open = ExitStack()
        root = Path(self.open.enter_context(TemporaryDirectory()))
        folder = self.open.enter_context(RunDir(root / "run", "", False))
        self.session = Session(settings.replace({"trainer": trainer}), Choices(**NAMES | names), folder)
        self.trainer, self.device = self.session.trainer, self.session.device
        self.trainer.loggers[-1] = Stop()
        self.step = self.trainer.train_step
        self.step.method.train()
        for number in range(WARMUP_STEPS):
            self.step(number)

    def seconds(self, steps: int) -> float:
        """Per step."""
        return timed(self.device, lambda: [self.step(number) for number in range(steps)]) / steps

    def fit_seconds(self, steps: int) -> float:
        """Per step of `fit()` with its loggers, until its first log."""
        return timed(self.device, self.session.fit) / steps

    def parts(self, steps: int) -> dict[str, float]:
        """Seconds of an eager step and of its parts, with the device idle in between."""
        each = [self.step_parts() for _ in range(steps)]
        return {part: sum(seconds[part] for seconds in each) / steps for part in each[0]}

    def step_parts(self) -> dict[str, float]:
        step, now, found = self.step, torch.zeros((), device=self.device), []
        forward = autocast(self.device, step.precision)(step.method.training_step)
        work = {
            "data": lambda: found.extend(step.batches.draw(0)),
            "augmentation": lambda: found.extend(step.batches.views(*found, step.method.views)),
            "forward+backward": lambda: forward(*found[2:], now).loss.backward(),
            "optimizer": lambda: (step.optimizer.step(), step.optimizer.zero_grad(set_to_none=True)),
            "EMA": lambda: step.update_averages(now),
        }
        seconds = {name: timed(self.device, part) for name, part in work.items()}
        raw = found[0].index, found[0].pixels, found[1].index, found[1].pixels
        whole = timed(self.device, lambda: (step.batches.draw(0), step.compute(now, *raw)))
        return {"step": whole} | seconds | {"rest": whole - sum(seconds.values())}

    def roofline(self) -> dict:
        """Of the same step, counted; see `roofline`."""
        labeled, unlabeled = self.step.batches.views(*self.step.batches.draw(0), self.step.method.views)
        now = torch.zeros((), device=self.device)

        def step() -> None:
            with autocast(self.device, self.step.precision):
                loss = self.step.method.training_step(labeled, unlabeled, now).loss
            loss.backward()
            self.step.optimizer.zero_grad(set_to_none=True)

        return roofline.bound(step, self.device, self.step.precision)

    def kernels(self) -> list[dict]:
        """The most expensive kernels of a step (operators on a CPU), by their own time."""
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device.type == "cuda")
        with silent(), profile(activities=activities) as profiler:
            self.seconds(1)
        key = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
        total = sum(getattr(event, key) for event in events)
        return [
            {
                "name": event.key,
                "calls": event.count,
                "ms": getattr(event, key) / 1e3,
                "share": getattr(event, key) / total,
            }
            for event in events[:KERNELS]
        ]

"""This package's training step, built as for a run, in a process of its own."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from meanteacher.benchmark import kernels, roofline
from meanteacher.benchmark.timing import time_seconds
from meanteacher.benchmark.variants import Variant
from meanteacher.config.settings import Choices, Settings
from meanteacher.loggers.progress import Progress
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training.device import autocast
from meanteacher.training.eta import WARMUP_STEPS

CHOICES = {"dataset": "random", "optimizer": "sgd", "schedule": "cosine", "augment": "standard"}
"""The options that all variants have in common."""

PARTS = ("data", "augmentation", "forward+backward", "optimizer", "EMA")
"""Parts of a step. What is left is the `rest`: seeds, learning rate and sums of metrics."""


class StopAtFirstLog(Progress):
    """Ends `fit()` at its first log, before it evaluates or saves, by raising InterruptedError."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        raise InterruptedError


class Ours:
    """The step of a variant, warmed up. names: of model and method."""

    def __init__(self, settings: Settings, names: dict[str, str], variant: Variant):
        trainer = settings.trainer.model_dump() | {"precision": variant.precision, "compile": variant.compile}
        self.open = ExitStack()
        root = Path(self.open.enter_context(TemporaryDirectory()))
        self.run_dir = self.open.enter_context(RunDir(root / "run", "", False))
        self.session = Session(settings.replace({"trainer": trainer}), Choices(**CHOICES | names), self.run_dir)
        self.trainer, self.device = self.session.trainer, self.session.device
        self.trainer.loggers[-1] = StopAtFirstLog()
        self.step = self.trainer.train_step
        for number in range(WARMUP_STEPS):
            self.step(number)

    def seconds(self, steps: int) -> float:
        """Seconds per step."""
        return time_seconds(self.device, lambda: [self.step(number) for number in range(steps)]) / steps

    def fit_seconds(self, steps: int) -> float:
        """Seconds per step of `fit()` with its loggers, up to its first log."""
        return time_seconds(self.device, self.session.fit) / steps

    def parts(self, steps: int) -> dict[str, float]:
        """Mean seconds of an eager step and of its parts, with the device idle in between."""
        timings = [self.time_parts() for _ in range(steps)]
        return {part: sum(seconds[part] for seconds in timings) / steps for part in timings[0]}

    def time_parts(self) -> dict[str, float]:
        """Seconds of one eager step and of its parts. Each part works on the results of the parts before it."""
        step, number, drawn, views = self.step, torch.zeros((), device=self.device), [], []
        forward = autocast(self.device, step.precision)(step.method.training_step)
        work = {
            "data": lambda: drawn.extend(step.batches.draw(0)),
            "augmentation": lambda: views.extend(step.batches.views(*drawn, step.method.views)),
            "forward+backward": lambda: forward(*views, number).loss.backward(),
            "optimizer": lambda: (step.optimizer.step(), step.optimizer.zero_grad(set_to_none=True)),
            "EMA": lambda: step.update_averages(number),
        }
        seconds = {part: time_seconds(self.device, function) for part, function in work.items()}
        images = [tensor for batch in drawn for tensor in batch]
        whole = time_seconds(self.device, lambda: (step.batches.draw(0), step.compute(number, *images)))
        return {"step": whole} | seconds | {"rest": whole - sum(seconds.values())}

    def roofline(self) -> dict:
        """The roofline bound of the forward and backward pass; see `roofline.bound`."""
        labeled, unlabeled = self.step.batches.views(*self.step.batches.draw(0), self.step.method.views)
        number = torch.zeros((), device=self.device)

        def forward_backward() -> None:
            with autocast(self.device, self.step.precision):
                loss = self.step.method.training_step(labeled, unlabeled, number).loss
            loss.backward()
            self.step.optimizer.zero_grad(set_to_none=True)

        return roofline.bound(forward_backward, self.device, self.step.precision)

    def profile(self, steps: int) -> dict:
        """The most expensive kernels of a step and the gaps between kernels; see `kernels.profile`."""
        return kernels.profile(lambda: [self.step(number) for number in range(steps)], self.device, steps)

"""The one training loop."""

import math
import time
from pathlib import Path

import torch

from meanteacher.config.errors import UserError
from meanteacher.loggers import Logger
from meanteacher.training import checkpoint
from meanteacher.training.eta import Pace
from meanteacher.training.evaluator import Evaluator
from meanteacher.training.meters import Stopwatch
from meanteacher.training.signals import stop_signals
from meanteacher.training.train_step import TrainStep


class Trainer:
    """Trains to `steps`; evaluates, logs and saves on the way. A resumed run gives the same bits.

    folder: where checkpoints go, or None for none. state: what `checkpoint.load` gave, or None to start.
    """

    def __init__(
        self,
        *,
        train_step: TrainStep,
        evaluator: Evaluator,
        loggers: list[Logger],
        steps: int,
        eval_every: int,
        log_every: int,
        checkpoint_minutes: float,
        folder: Path | None,
        state: dict | None,
    ):
        self.train_step, self.evaluator, self.loggers = train_step, evaluator, loggers
        self.steps, self.eval_every, self.log_every = steps, eval_every, log_every
        self.checkpoint_seconds, self.folder = checkpoint_minutes * 60, folder
        self.step, self.history, self.stopwatch = 0, [], Stopwatch(train_step.device)
        if state is not None:
            self.step, self.history, self.stopwatch.seconds = state["step"], state["history"], state["seconds"]
        self.pace = Pace(self)

    def fit(self) -> str:
        """Train to the end or to a signal. Returns `finished` or `interrupted`."""
        self.train_step.method.train()
        saved = time.perf_counter()
        self.stopwatch.start()
        with stop_signals() as stop:
            while self.step < self.steps and not stop:
                self.train_step(self.step)
                self.step += 1
                self.pace.tick()
                for logger in self.loggers:
                    logger.on_step(self.step)
                last = self.step == self.steps
                if self.step % self.log_every == 0 or last:
                    self.record(self.means())
                if self.step % self.eval_every == 0 or last:
                    self.record(self.evaluate())
                if self.folder and (last or stop or time.perf_counter() - saved > self.checkpoint_seconds):
                    checkpoint.save(self.folder, self.state_dict())
                    saved = time.perf_counter()
        self.stopwatch.stop()
        return "finished" if self.step == self.steps else "interrupted"

    def means(self) -> dict[str, float]:
        """Means of the metrics since they were last asked for. Raises UserError where one is not finite."""
        means = self.train_step.meter.means()
        if not all(map(math.isfinite, means.values())):
            advice = "lower optimizer.lr or use trainer.precision=fp32"
            raise UserError(f"the loss is not finite by step {self.step} ({means}); {advice}")
        return {f"train/{name}": mean for name, mean in means.items()}

    def images_per_second(self) -> float:
        """The student's images per second of training, evaluations left out."""
        return self.step * self.train_step.batches.images_per_step() / max(self.stopwatch.read(), 1e-9)

    def record(self, metrics: dict[str, float]) -> None:
        """Add to the history and tell the loggers."""
        self.history.append({"step": self.step, **metrics})
        for logger in self.loggers:
            logger.log(self.step, {**metrics, "train/images_per_second": self.images_per_second()})

    def models(self) -> dict[str, torch.nn.Module]:
        """What is evaluated: the method's networks, and the average."""
        average = self.train_step.average
        return self.train_step.method.eval_models() | ({"average": average.model} if average else {})

    def evaluate(self) -> dict[str, float]:
        self.stopwatch.stop()
        found = self.evaluator(self.models())
        self.stopwatch.start()
        return found

    def state_dict(self) -> dict:
        """Tensors and builtins: all that the next step depends on, the history so far, and what a resume must keep."""
        step = self.train_step
        return {
            "step": self.step,
            "history": self.history,
            "seconds": self.stopwatch.read(),
            "device": step.device.type,
            "precision": step.precision,
            "compiled": step.compiled,
            "threads": torch.get_num_threads(),
            **step.state_dict(),
        }

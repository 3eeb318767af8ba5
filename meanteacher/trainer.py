"""The one training loop."""

import logging
import math
import statistics
import time
from pathlib import Path

import torch

from meanteacher import checkpoint
from meanteacher.data.views import Batches, derive
from meanteacher.device import autocast
from meanteacher.ema import EMA
from meanteacher.errors import UserError
from meanteacher.evaluator import Evaluator
from meanteacher.interrupts import stop_signals
from meanteacher.loggers import Logger
from meanteacher.meter import Meter, Stopwatch, duration
from meanteacher.methods.base import Method
from meanteacher.optim import LearningRate

log = logging.getLogger(__name__)

DROPOUT = 4
PROBE = 5
LONG_HOURS = 2


class Trainer:
    """Trains `method` to `steps`; a step is a pure function of (state, seed, step), so a resumed run gives the same bits.

    average: an EMA of the student kept for evaluation only, or None. folder: where checkpoints go, or None for none.
    state: what `checkpoint.load` gave, or None to start.
    """

    def __init__(
        self,
        *,
        method: Method,
        average: EMA | None,
        optimizer: torch.optim.Optimizer,
        lr: float,
        schedule,
        batches: Batches,
        evaluator: Evaluator,
        loggers: list[Logger],
        steps: int,
        eval_every: int,
        log_every: int,
        checkpoint_minutes: float,
        seed: int,
        device: torch.device,
        precision: str,
        folder: Path | None,
        state: dict | None,
    ):
        self.method, self.average, self.optimizer = method, average, optimizer
        self.batches, self.evaluator, self.loggers = batches, evaluator, loggers
        self.steps, self.eval_every, self.log_every = steps, eval_every, log_every
        self.checkpoint_seconds, self.folder = checkpoint_minutes * 60, folder
        self.seed, self.device, self.precision = seed, device, precision
        self.step, self.history = 0, []
        self.meter, self.stopwatch = Meter(), Stopwatch(device)
        if state is not None:
            self.load_state_dict(state)
        self.start_step = self.step
        self.learning_rate = LearningRate(optimizer, lr, schedule, device)

    def fit(self) -> str:
        """Train to the end or to a signal; evaluates, logs and saves on the way. Returns `finished` or `interrupted`."""
        self.method.train()
        saved = time.perf_counter()
        self.stopwatch.start()
        with stop_signals() as stop:
            while self.step < self.steps and not stop:
                self.train_step(self.step)
                self.step += 1
                for logger in self.loggers:
                    logger.alive(self.step)
                last = self.step == self.steps
                if self.step == self.start_step + PROBE:
                    self.announce()
                if self.step % self.log_every == 0 or last:
                    self.record(self.means())
                if self.step % self.eval_every == 0 or last:
                    self.record(self.evaluate())
                if self.folder and (last or stop or time.perf_counter() - saved > self.checkpoint_seconds):
                    checkpoint.save(self.folder, self.state_dict())
                    saved = time.perf_counter()
        self.stopwatch.stop()
        return "finished" if self.step == self.steps else "interrupted"

    def train_step(self, step: int) -> None:
        """One step. Nothing is read back from the device."""
        torch.manual_seed(derive(self.seed, DROPOUT, step))
        now = torch.full((), float(step), device=self.device)
        self.learning_rate.set(now)
        labeled, unlabeled = self.batches(step, self.method.views)
        with autocast(self.device, self.precision):
            output = self.method.training_step(labeled, unlabeled, now)
        output.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(now)
        if self.average:
            self.average.update(self.method.student, now)
        self.meter.add({"loss": output.loss, **output.metrics})

    def means(self) -> dict[str, float]:
        """Means of the metrics since they were last asked for. Raises UserError where one is not finite."""
        means = self.meter.means()
        if not all(map(math.isfinite, means.values())):
            advice = "lower optimizer.lr or use trainer.precision=fp32"
            raise UserError(f"the loss is not finite by step {self.step} ({means}); {advice}")
        return {f"train/{name}": mean for name, mean in means.items()}

    def images_per_second(self) -> float:
        """The student's images per second of training, evaluations left out."""
        return self.step * self.batches.images_per_step() / max(self.stopwatch.read(), 1e-9)

    def record(self, metrics: dict[str, float]) -> None:
        """Add to the history and tell the loggers."""
        self.history.append({"step": self.step, **metrics})
        for logger in self.loggers:
            logger.log(self.step, {**metrics, "train/images_per_second": self.images_per_second()})

    def hours_left(self) -> float:
        """From the speed so far; an evaluation image costs a third of a training image."""
        left = self.steps - self.step
        testing = left // self.eval_every * self.evaluator.images() * len(self.models()) / 3
        return (left * self.batches.images_per_step() + testing) / self.images_per_second() / 3600

    def probe(self) -> float:
        """Seconds that the whole run would take, from the median of a few steps, after which this trainer is of no use."""
        self.method.train()
        self.train_step(0)
        times = []
        for self.step in range(1, PROBE + 1):
            self.stopwatch.seconds = 0.0
            self.stopwatch.start()
            self.train_step(self.step)
            self.stopwatch.stop()
            times.append(self.stopwatch.seconds)
        self.stopwatch.seconds = PROBE * statistics.median(times)
        return self.stopwatch.seconds + 3600 * max(0.0, self.hours_left())

    def announce(self) -> None:
        """Say how long the run will take."""
        hours = self.hours_left()
        log.info("speed   %.0f images/s, about %s to go", self.images_per_second(), duration(hours))
        if hours > LONG_HOURS:
            fewer = max(1, int(self.steps * LONG_HOURS / hours))
            log.warning(
                "this run takes about %.0f hours here; steps=%d would take %d, model=wrn_10_1 is the smallest network, "
                "experiment=quickstart takes a minute, a GPU is faster. Ctrl-C saves; the same command goes on.",
                hours, fewer, LONG_HOURS,
            )  # fmt: skip

    def models(self) -> dict[str, torch.nn.Module]:
        """What is evaluated: the method's networks, and the average."""
        return self.method.eval_models() | ({"average": self.average.model} if self.average else {})

    def evaluate(self) -> dict[str, float]:
        self.stopwatch.stop()
        found = self.evaluator(self.models())
        self.stopwatch.start()
        return found

    def state_dict(self) -> dict:
        """Tensors and builtins: all that the next step depends on, and the history so far."""
        return {
            "step": self.step,
            "method": self.method.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "meter": self.meter.state_dict(),
            "seconds": self.stopwatch.read(),
            "device": self.device.type,
            "precision": self.precision,
            "threads": torch.get_num_threads(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.step, self.history, self.stopwatch.seconds = state["step"], state["history"], state["seconds"]
        self.meter.load_state_dict(state["meter"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])

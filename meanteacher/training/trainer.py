"""The training loop, the same for every method."""

import time

import torch
from torch import Tensor, nn

from meanteacher.loggers import Logger
from meanteacher.training.checkpoint import Checkpoints
from meanteacher.training.device import peak_memory
from meanteacher.training.eta import TimeEstimator, steps_per_reading
from meanteacher.training.evaluator import Evaluator
from meanteacher.training.finite import check_equal_weights, check_metrics, check_weights
from meanteacher.training.meters import Stopwatch
from meanteacher.training.partition import Partition
from meanteacher.training.ranks import ALONE
from meanteacher.training.sharding import sharded
from meanteacher.training.signals import adopt, save_requests, stop_signals
from meanteacher.training.train_step import TrainStep


class Trainer:
    """Trains up to step `steps` and evaluates, logs and saves checkpoints on the way. A resumed run gives the same
    bits.

    eval_every, log_every: in steps; both also happen after the last step. checkpoints: where the state is saved, or
    None to save none. state: from `Checkpoints.load`, or None to start anew. bitwise: whether all steps so far gave the
    bits of a run that never stopped, kept in the checkpoint. partition: how each batch is divided among the processes
    of the run, which train, evaluate and stop at the same steps; None for a single process.
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
        checkpoints: Checkpoints | None,
        state: dict | None,
        bitwise: bool = True,
        partition: Partition | None = None,
    ):
        self.train_step, self.evaluator, self.loggers = train_step, evaluator, loggers
        self.partition, self.ranks = partition, ALONE if partition is None else partition.ranks
        self.steps, self.eval_every, self.log_every = steps, eval_every, log_every
        self.checkpoint_seconds, self.checkpoints = checkpoint_minutes * 60, checkpoints
        self.step, self.history, self.stopwatch = 0, [], Stopwatch(train_step.device)
        self.evaluated_step: int | None = None
        self.bitwise = bitwise
        if state is not None:
            self.step, self.history, self.stopwatch.seconds = state["step"], state["history"], state["seconds"]
        self.estimator = TimeEstimator(
            steps=steps,
            eval_every=eval_every,
            start_step=self.step,
            steps_per_reading=steps_per_reading(train_step.device.type),
            images_per_step=train_step.images_per_step,
            images_per_evaluation=evaluator.images_per_evaluation * len(self.models()),
        )

    def fit(self) -> str:
        """Train to the last step or until a signal arrives. Returns `finished` or `interrupted`."""
        saved = time.perf_counter()
        self.stopwatch.start()
        networks = filter(None, [self.train_step.method, self.train_step.average])
        with (
            sharded(networks, type(self.models()["student"]), self.partition),
            stop_signals() as stop,
            save_requests() as requests,
        ):
            stopping = False
            while self.step < self.steps and not stopping:
                self.take_step()
                for logger in self.loggers:
                    logger.on_step(self.step)
                at_end = self.step == self.steps
                if self.step % self.log_every == 0 or at_end:
                    self.record(self.mean_metrics())
                if self.step % self.eval_every == 0 or at_end:
                    self.record(self.evaluate())
                overdue = time.perf_counter() - saved > self.checkpoint_seconds
                stopping, due = self.agree(stop, bool(requests or overdue))
                if at_end or stopping or due:
                    self.save()
                    requests.clear()
                    saved = time.perf_counter()
        self.stopwatch.stop()
        return "finished" if self.step == self.steps else "interrupted"

    def save(self) -> None:
        """Save a checkpoint. Raises UserError if a weight is not finite; the checkpoints from before are then kept."""
        if self.checkpoints:
            check_weights(self.models().values(), self.step, self.train_step.describe_divergence)
            self.checkpoints.save(self.state_dict())

    def agree(self, stop: list[int], save: bool) -> tuple[bool, bool]:
        """Whether to stop and whether to save after this step: if any process of the run wants to.

        stop: the stop signals of this process; a signal that arrives later counts after the next step.
        """
        number = max(stop, default=0)
        if self.ranks.together:
            number, save = self.ranks.largest(number, save)
            adopt(stop, number)
        return number > 0, bool(save)

    def take_step(self) -> None:
        """Train one step. The first steps are timed."""
        self.train_step(self.step)
        self.step += 1
        if self.step in self.estimator.reading_steps:
            self.estimator.add_reading(self.step, self.stopwatch.read())

    def estimate_seconds(self) -> float:
        """Estimate the seconds of the whole run from its first steps. The trainer must not be used afterward."""
        self.stopwatch.start()
        while self.estimator.seconds_per_step is None:
            self.take_step()
        self.stopwatch.stop()
        return self.estimator.total_seconds(self.step, self.stopwatch.seconds)

    def mean_metrics(self) -> dict[str, float]:
        """The mean of each metric of the step since the previous call, and the scores of its pseudo-labels.

        Raises UserError if a mean is not finite.
        """
        means = self.train_step.meter.means()
        check_metrics(means, self.step, self.train_step.describe_divergence)
        return {f"train/{name}": value for name, value in (means | self.train_step.pseudo_labels.scores()).items()}

    def evaluate(self) -> dict[str, float]:
        """The scores of every network on every part. The time does not count as training time.

        Raises UserError if a weight is not finite.
        """
        self.stopwatch.stop()
        check_weights(self.models().values(), self.step, self.train_step.describe_divergence)
        check_equal_weights(self.models().values(), self.step, self.ranks)
        started = time.perf_counter()
        scores = self.evaluator(self.models())
        self.evaluated_step = self.step
        self.estimator.add_evaluation(self.step, self.stopwatch.seconds, time.perf_counter() - started)
        self.stopwatch.start()
        return scores

    def record(self, metrics: dict[str, float]) -> None:
        """Append the metrics to the history and pass them to the loggers, together with the speed."""
        self.history.append({"step": self.step, **metrics})
        for logger in self.loggers:
            logger.log(self.step, {**metrics, "train/images_per_second": self.images_per_second()})

    def images_per_second(self) -> float:
        """Labeled and unlabeled images per second of training time, over all attempts."""
        return self.step * self.train_step.images_per_step / max(self.stopwatch.read(), 1e-9)

    @property
    def parts(self) -> list[str]:
        """The parts of the data that are evaluated: `test`, and `validation` if there are validation images."""
        return list(self.evaluator.measured)

    def models(self) -> dict[str, nn.Module]:
        """The networks that are evaluated, the one to deploy last."""
        return self.train_step.models()

    def logits(self, network: str, part: str) -> Tensor:
        """The logits of a network on a part of the data at this step, float32 [N, K] on the host.

        Those of an evaluation at this step are used; others are computed once.
        """
        if self.evaluated_step != self.step:
            self.evaluator.latest.clear()
            self.evaluated_step = self.step
        latest = self.evaluator.latest
        if (part, network) not in latest:
            latest[part, network] = self.evaluator.logits(self.models()[network], part).cpu()
        return latest[part, network]

    def summary(self) -> dict:
        """Steps taken, speed, training time in seconds and peak memory in bytes, under their names in result.json."""
        return {
            "steps": self.step,
            "images_per_second": self.images_per_second(),
            "training_seconds": self.stopwatch.seconds,
            "peak_memory_bytes": peak_memory(self.train_step.device),
        }

    def state_dict(self) -> dict:
        """Everything a resumed run needs, as tensors and builtins."""
        return {
            "step": self.step,
            "history": self.history,
            "seconds": self.stopwatch.read(),
            "threads": torch.get_num_threads(),
            "bitwise": self.bitwise,
            "pieces": 1 if self.partition is None else self.partition.pieces,
            **self.train_step.state_dict(),
        }

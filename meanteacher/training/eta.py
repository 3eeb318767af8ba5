"""Estimates how long a run takes, from the measured seconds of its first steps and evaluations."""

import logging
import statistics
from itertools import pairwise

from meanteacher.config.formats import format_duration
from meanteacher.training.cuda_graph import EAGER_CALLS

log = logging.getLogger(__name__)

WARMUP_STEPS = EAGER_CALLS + 2
"""Steps that are not timed: memory is allocated, libraries choose their kernels, and a CUDA graph is captured."""

TIMINGS = 5
"""Measurements of the seconds per step, of which the median is taken."""

TRAINING_COST = 3
"""An image costs about this many times as much in a training step as in an evaluation: a backward pass costs two
forward passes. Used until an evaluation has been timed."""

HINT_SECONDS = 120
"""Longer runs are told which keys make them shorter."""

LONG_HOURS = 2
"""Longer runs are warned."""


def steps_per_reading(device_type: str) -> int:
    """Steps between two readings of the training time: more on a GPU, where each reading waits for the queued steps."""
    return 1 if device_type == "cpu" else 10


class TimeEstimator:
    """Estimates the remaining seconds of a run from readings of its training time, which the trainer feeds to it.

    steps, eval_every: of the run; start_step: the step at which this attempt starts; steps_per_reading: steps between
    two readings; images_per_step: images in a training step; images_per_evaluation: forward passes of single images in
    one evaluation, over all networks.
    """

    def __init__(
        self,
        *,
        steps: int,
        eval_every: int,
        start_step: int,
        steps_per_reading: int,
        images_per_step: int,
        images_per_evaluation: int,
    ):
        self.steps, self.eval_every = steps, eval_every
        self.images_per_step, self.images_per_evaluation = images_per_step, images_per_evaluation
        first = start_step + WARMUP_STEPS
        self.reading_steps = range(first, first + TIMINGS * steps_per_reading + 1, steps_per_reading)
        self.readings: list[tuple[int, float]] = []
        self.evaluations: list[float] = []
        self.seconds_per_step: float | None = None

    def add_reading(self, step: int, training_seconds: float) -> None:
        """Record the training time after one of `reading_steps`. The last one gives the estimate, which is logged."""
        self.readings.append((step, training_seconds))
        if step == self.reading_steps[-1]:
            rates = [(later - earlier) / (end - start) for (start, earlier), (end, later) in pairwise(self.readings)]
            self.seconds_per_step = statistics.median(rates)
            self.log_speed(step)
            self.log_advice(step)

    def add_evaluation(self, step: int, training_seconds: float, seconds: float) -> None:
        """Record the seconds of the evaluation after `step`, and set the seconds per step to their mean since the
        warm-up.

        The second evaluation is the first whose seconds count, so the estimate is then logged again.
        """
        self.evaluations.append(seconds)
        if self.seconds_per_step is not None and step > self.reading_steps[-1]:
            start, earlier = self.readings[0]
            self.seconds_per_step = (training_seconds - earlier) / (step - start)
            if len(self.evaluations) == 2:
                self.log_speed(step)

    @property
    def images_per_second(self) -> float:
        """Images per second of training, evaluations excluded."""
        return self.images_per_step / max(self.seconds_per_step, 1e-9)

    @property
    def seconds_per_evaluation(self) -> float:
        """The median of the timed evaluations without the first, which imports and compiles; else an approximation."""
        if len(self.evaluations) > 1:
            return statistics.median(self.evaluations[1:])
        return self.images_per_evaluation / TRAINING_COST / self.images_per_second

    def seconds_left(self, step: int) -> float:
        """Seconds that the steps and evaluations after `step` take."""
        evaluations = -(-self.steps // self.eval_every) - step // self.eval_every
        return (self.steps - step) * self.seconds_per_step + evaluations * self.seconds_per_evaluation

    def total_seconds(self, step: int, training_seconds: float) -> float:
        """Seconds that the whole run takes, whose first `step` steps took `training_seconds`, warm-up included."""
        warmup = training_seconds - step * self.seconds_per_step
        return max(0.0, warmup) + self.seconds_left(0)

    def log_speed(self, step: int) -> None:
        """Log the speed and the remaining time after `step`; nothing after the last step."""
        if step >= self.steps:
            return
        evaluation = ""
        if len(self.evaluations) > 1:
            evaluation = f" (an evaluation takes {format_duration(self.seconds_per_evaluation)})"
        left = format_duration(self.seconds_left(step))
        log.info("speed   %.0f images/s, about %s left%s", self.images_per_second, left, evaluation)

    def log_advice(self, step: int) -> None:
        """Log what makes a long run shorter. Logs nothing for a short one."""
        seconds = self.seconds_left(step)
        if seconds > 3600 * LONG_HOURS:
            log.warning(
                "this run takes about %s here; steps=%d would take %d h, model=wrn_10_1 is the smallest network, "
                "experiment=quickstart takes about a minute, and a GPU is faster. "
                "Ctrl-C saves; rerun the command to resume.",
                format_duration(seconds), max(1, int(self.steps * 3600 * LONG_HOURS / seconds)), LONG_HOURS,
            )  # fmt: skip
        elif seconds > HINT_SECONDS:
            log.info(
                "        shorter with fewer steps=, with model=wrn_10_1 (the smallest network), or with fewer than "
                "%d images per step (trainer.unlabeled_batch, trainer.labeled_batch)", self.images_per_step,
            )  # fmt: skip

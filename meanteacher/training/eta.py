"""How long a run will take, from its first steps."""

import logging
import statistics

from meanteacher.training.cuda_graph import WARMUP
from meanteacher.training.meters import duration

log = logging.getLogger(__name__)

FIRST = {False: 1, True: WARMUP + 2}
"""Steps that are not timed, eager and compiled: they allocate, compile and capture."""

PROBE = 5
"""Steps that are."""

LONG_HOURS = 2


class Pace:
    """`tick()` after every step; says after the first ones how long the rest will take. trainer: a `Trainer`."""

    def __init__(self, trainer):
        self.trainer, self.began = trainer, 0.0
        self.first = trainer.step + FIRST[trainer.train_step.compiled]

    def tick(self) -> None:
        step = self.trainer.step
        if step == self.first:
            self.began = self.trainer.stopwatch.read()
        elif step == self.first + PROBE:
            images = PROBE * self.trainer.train_step.batches.images_per_step()
            self.announce(images / max(self.trainer.stopwatch.read() - self.began, 1e-9))

    def announce(self, speed: float) -> None:
        hours = hours_left(self.trainer, speed)
        log.info("speed   %.0f images/s, about %s to go", speed, duration(hours))
        if hours > LONG_HOURS:
            fewer = max(1, int(self.trainer.steps * LONG_HOURS / hours))
            log.warning(
                "this run takes about %.0f hours here; steps=%d would take %d, model=wrn_10_1 is the smallest network, "
                "experiment=quickstart takes a minute, a GPU is faster. Ctrl-C saves; the same command goes on.",
                hours, fewer, LONG_HOURS,
            )  # fmt: skip


def hours_left(trainer, speed: float) -> float:
    """At so many training images a second; an evaluation image costs a third of a training image."""
    left = trainer.steps - trainer.step
    testing = left // trainer.eval_every * trainer.evaluator.images() * len(trainer.models()) / 3
    return (left * trainer.train_step.batches.images_per_step() + testing) / speed / 3600


def probe(trainer) -> float:
    """Seconds that the whole run would take, from the median of a few steps, after which the trainer is of no use."""
    trainer.train_step.method.train()
    times = []
    for step in range(FIRST[trainer.train_step.compiled] + PROBE):
        trainer.stopwatch.seconds = 0.0
        trainer.stopwatch.start()
        trainer.train_step(step)
        trainer.stopwatch.stop()
        times.append(trainer.stopwatch.seconds)
    trainer.step = len(times)
    speed = trainer.train_step.batches.images_per_step() / statistics.median(times[-PROBE:])
    return sum(times) + 3600 * max(0.0, hours_left(trainer, speed))

"""Shows the progress of a run in the console: a progress bar on a terminal, a line per evaluation elsewhere."""

import logging
import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from meanteacher.config.formats import format_clock
from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    from tqdm import tqdm

_BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_log = logging.getLogger("meanteacher")


class Progress(Logger):
    """Shows the latest loss, errors in percent, speed in images per second, and the remaining time.

    If stderr is not a terminal, a line is logged for each call of `log` with an error among its metrics.
    """

    _run: RunInfo
    _started: float
    _bar: "tqdm | None"
    _exit_stack: ExitStack
    _loss: str | None
    _errors: dict[str, str]
    _speed: str | None

    def start(self, run: RunInfo) -> None:
        self._run, self._started, self._bar = run, time.monotonic(), None
        self._loss, self._errors, self._speed = None, {}, None
        self._exit_stack = ExitStack()
        if sys.stderr.isatty():
            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            bar = tqdm(
                total=run.steps, initial=run.start_step, file=sys.stderr, bar_format=_BAR_FORMAT, dynamic_ncols=True
            )
            self._bar = self._exit_stack.enter_context(bar)
            self._exit_stack.enter_context(logging_redirect_tqdm([_log]))  # log lines appear above the bar

    def on_step(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._update(metrics)
        parts = [self._loss, *self._errors.values(), self._speed]
        if self._bar is not None:
            self._bar.set_postfix_str(" · ".join(filter(None, parts)))
        elif any(name.endswith("/error") for name in metrics):
            _log.info(" · ".join(filter(None, [f"step {step}/{self._run.steps}", *parts, self._time_left(step)])))

    def finish(self, status: str, summary: dict) -> None:
        self._exit_stack.close()

    def _update(self, metrics: dict[str, float]) -> None:
        """Format the metrics that are shown. Those that are missing keep their last text."""
        for name, value in metrics.items():
            if match := re.fullmatch(r"(\w+)/(.+)/error", name):
                part, network = match.groups()
                label = network if part == "test" else f"{part} {network}"
                self._errors[label] = f"{label} {100 * value:.1f} %"
        if "train/loss" in metrics:
            self._loss = f"loss {metrics['train/loss']:.3f}"
        if "train/images_per_second" in metrics:
            self._speed = f"{metrics['train/images_per_second']:.0f} img/s"

    def _time_left(self, step: int) -> str | None:
        """For example, `ETA 0:12`, from the mean speed since the start or resume; None before the first step."""
        steps_done = step - self._run.start_step
        if steps_done <= 0:
            return None
        seconds_per_step = (time.monotonic() - self._started) / steps_done
        return f"ETA {format_clock(seconds_per_step * (self._run.steps - step))}"

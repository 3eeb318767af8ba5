"""What a person sees while a run goes on: a bar on a terminal, sparse lines in a log file."""

import logging
import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    from tqdm import tqdm

_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_log = logging.getLogger("meanteacher")


class Progress(Logger):
    """Shows the last seen loss, errors (in percent) and speed, with the time that is left.

    Where stderr is no terminal there is one line per evaluation, that is per log call with an error among its metrics.
    """

    _run: RunInfo
    _began: float
    _bar: "tqdm | None"
    _open: ExitStack
    _errors: dict[str, str]
    _loss: str | None
    _speed: str | None

    def start(self, run: RunInfo) -> None:
        self._run, self._began, self._bar = run, time.monotonic(), None
        self._open = ExitStack()
        self._errors, self._loss, self._speed = {}, None, None
        if sys.stderr.isatty():
            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            bar = tqdm(total=run.steps, initial=run.start_step, file=sys.stderr, bar_format=_BAR, dynamic_ncols=True)
            self._bar = self._open.enter_context(bar)
            self._open.enter_context(logging_redirect_tqdm([_log]))  # other lines go above the bar

    def alive(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        evaluated = self._remember(metrics)
        seen = [self._loss, *self._errors.values(), self._speed]
        if self._bar is not None:
            self._bar.set_postfix_str(" · ".join(filter(None, seen)))
        elif evaluated:
            _log.info(" · ".join(filter(None, [f"step {step}/{self._run.steps}", *seen, self._time_left(step)])))

    def finish(self, status: str, summary: dict) -> None:
        self._open.close()

    def _remember(self, metrics: dict[str, float]) -> bool:
        """Keep what is shown; true where an error is among the metrics."""
        errors = {found: value for name, value in metrics.items() if (found := re.fullmatch(r"(\w+)/(.+)/error", name))}
        for found, value in errors.items():
            split, model = found.groups()
            name = model if split == "test" else f"{split} {model}"
            self._errors[name] = f"{name} {100 * value:.1f} %"
        if "train/loss" in metrics:
            self._loss = f"loss {metrics['train/loss']:.3f}"
        if "train/images_per_second" in metrics:
            self._speed = f"{metrics['train/images_per_second']:.0f} img/s"
        return bool(errors)

    def _time_left(self, step: int) -> str | None:
        """`ETA 0:12` or `ETA 1:02:03` from this attempt's pace; nothing before its first step."""
        done = step - self._run.start_step
        if done <= 0:
            return None
        seconds = round((time.monotonic() - self._began) / done * (self._run.steps - step))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"ETA {hours}:{minutes:02}:{seconds:02}" if hours else f"ETA {minutes}:{seconds:02}"

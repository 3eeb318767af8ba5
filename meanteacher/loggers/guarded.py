"""A logger that cannot end a run."""

import logging
import textwrap
from collections.abc import Callable
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.loggers import Logger, RunInfo

log = logging.getLogger(__name__)


class Guarded(Logger):
    """Passes calls on to another logger. After its first error it is left out, with a warning, until `finish`.

    Only a UserError in `start` is raised, because it is a mistake in the configuration.
    """

    def __init__(self, logger: Logger):
        self.logger, self.failed, self.started = logger, False, False

    def start(self, run: RunInfo) -> None:
        self._call(Logger.start, run, raises=UserError)
        self.started = not self.failed

    def on_step(self, step: int) -> None:
        self._call(Logger.on_step, step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._call(Logger.log, step, metrics)

    def log_pictures(self, paths: dict[str, Path]) -> None:
        self._call(Logger.log_pictures, paths)

    def log_table(self, name: str, columns: list[str], rows: list[list]) -> None:
        self._call(Logger.log_table, name, columns, rows)

    def finish(self, status: str, summary: dict) -> None:
        """Close the backend if it was opened, even if a call has failed since."""
        if self.started:
            self._call(Logger.finish, status, summary, always=True)

    def _call(self, method: Callable, *arguments, raises: type[Exception] | tuple = (), always: bool = False) -> None:
        if self.failed and not always:
            return
        try:
            getattr(self.logger, method.__name__)(*arguments)
        except raises:
            raise
        except Exception as error:
            reason = textwrap.shorten(str(error) or type(error).__name__, 200)
            if not self.failed:
                log.warning("%s failed and records nothing from here on: %s", type(self.logger).__name__, reason)
            self.failed = True
            log.debug("the logger's error", exc_info=error)

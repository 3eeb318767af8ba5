"""Records runs in Weights & Biases, offline if there is no account or no network, so that neither makes a run fail."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from meanteacher.config.digest import flatten
from meanteacher.config.errors import UserError, first_line
from meanteacher.config.types import Literal
from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    import wandb

INIT_TIMEOUT = 10
"""Seconds that the server has to accept a run before the run continues offline."""

FINISH_TIMEOUT = 120
"""Seconds for the last uploads at the end of a run. What is left is on disk, and `wandb sync` uploads it."""

MODES = ("online", "offline", "disabled")

_log = logging.getLogger(__name__)


class Wandb(Logger):
    """Records a run in Weights & Biases. The keys of its configuration are flat and dotted, such as `optimizer.lr`.

    mode: `auto` takes the environment variable WANDB_MODE, or `online` if it is not set. Without credentials (in the
    environment, netrc or wandb's settings) or without an answer from the server, `online` becomes `offline`. A run that
    was resumed offline has a folder per attempt, all with the same run id.
    """

    _run: "wandb.Run"
    _step: int

    def __init__(self, *, project: str, entity: str | None, mode: Literal["auto", "online", "offline", "disabled"]):
        self._project, self._entity, self._mode = project, entity, mode

    def start(self, run: RunInfo) -> None:
        """Open the run. Raises UserError for an invalid mode or project.

        wandb's reports about itself are turned off unless WANDB_ERROR_REPORTING asks for them: with a server that does
        not answer, they would delay the exit of this process by 20 seconds.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        mode = os.environ.get("WANDB_MODE", "online") if self._mode == "auto" else self._mode
        if mode not in MODES:
            raise UserError(f"logger wandb: WANDB_MODE={mode} is not one of {', '.join(MODES)}")
        reason = self._try_online(run) if mode == "online" else "as configured"
        if reason is not None:
            self._run = self._open(run, "disabled" if mode == "disabled" else "offline")
            if mode != "disabled":
                _log.info("wandb is offline (%s): `wandb sync %s` uploads the run", reason, self._folder)
        self._step = max(run.start_step, self._run.step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics. Steps that the server already has from before a resume are skipped: it accepts none twice."""
        if step >= self._step:
            self._step = step
            self._run.log(metrics, step=step)

    def log_pictures(self, paths: dict[str, Path]) -> None:
        import wandb

        if paths:
            self._run.log({name: wandb.Image(str(path)) for name, path in paths.items()}, step=self._step)

    def log_table(self, name: str, columns: list[str], rows: list[list]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=columns, data=rows)}, step=self._step)

    def finish(self, status: str, summary: dict) -> None:
        """Close the run with exit code 0 if it is finished, else 1.

        An interrupted run is marked as preempting, which W&B shows as a run that will be resumed.
        """
        folder = self._folder
        try:
            values = {key: value for key, value in summary.items() if key != "settings"}
            self._run.summary.update(flatten(values, "/"))
            if status == "interrupted":
                self._run.mark_preempting()
            self._run.finish(exit_code=0 if status == "finished" else 1)
        except TimeoutError:
            _log.warning("wandb has not uploaded everything: `wandb sync --include-online %s` uploads the rest", folder)
            _end_service()
        except Exception:
            _end_service()
            raise

    @property
    def _folder(self) -> Path:
        """The folder of the run's local files."""
        return Path(self._run.dir).parent

    def _try_online(self, run: RunInfo) -> str | None:
        """Open the run online. Returns the reason if that is not possible, else None."""
        import wandb

        _silence("online")
        try:
            if not wandb.login(prompt=False, verify=False):
                return "no credentials found"
            self._run = self._open(run, "online")
        except (wandb.errors.CommError, TimeoutError) as error:
            _end_service()  # otherwise it keeps the run id reserved
            return first_line(error)
        return None

    def _open(self, run: RunInfo, mode: str) -> "wandb.Run":
        """Open or resume the run. Raises UserError for settings that wandb refuses."""
        import wandb

        _silence(mode)
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        )
        try:
            return wandb.init(
                project=self._project,
                entity=self._entity,
                mode=mode,
                dir=run.folder,
                id=run.id,
                resume="allow",
                reinit="create_new",
                group=run.group,
                name=run.name,
                tags=run.tags,
                config=flatten(run.config, "."),
                job_type=run.kind,
                settings=settings,
            )
        except wandb.errors.UsageError as error:
            raise UserError(f"logger wandb: {error}") from error


def _end_service() -> None:
    """End wandb's process. At the exit of this one, wandb would wait for it without a limit, or print a traceback."""
    import wandb

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name().startswith("wandb-core"):
                child.kill()
    with suppress(Exception, SystemExit):  # it exits if its process has failed
        wandb.teardown()


def _silence(mode: str) -> None:
    """Keep wandb from printing to the console. It reads this setting only at its first setup, or after a teardown."""
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True, mode=mode))

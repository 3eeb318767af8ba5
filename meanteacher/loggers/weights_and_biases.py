"""Weights & Biases: online with an account and a network, else offline; a run never fails for want of either."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.digest import flatten
from meanteacher.config.errors import UserError
from meanteacher.config.types import Literal
from meanteacher.loggers import Logger, RunInfo

if TYPE_CHECKING:
    import wandb

INIT_TIMEOUT = 30
"""Seconds for the server to take the run, before it goes on offline."""

FINISH_TIMEOUT = 300
"""Seconds for the last uploads after the run."""

_log = logging.getLogger(__name__)


class Wandb(Logger):
    """mode: auto is WANDB_MODE where set, else online; what cannot be online, for want of credentials (the key or token
    in the environment, netrc or wandb's settings) or of an answer, is offline, in a new folder with the same id."""

    _run: "wandb.Run"
    _step: int

    def __init__(self, *, project: str, entity: str | None, mode: Literal["auto", "online", "offline", "disabled"]):
        self._project, self._entity, self._mode = project, entity, mode

    def start(self, run: RunInfo) -> None:
        mode = os.environ.get("WANDB_MODE", "online") if self._mode == "auto" else self._mode
        if mode not in ("online", "offline", "disabled"):
            raise UserError(f"logger wandb: WANDB_MODE={mode} is none of online, offline and disabled")
        why = self._try_online(run) if mode == "online" else "as configured"
        if why is not None:
            self._run = self._open(run, "disabled" if mode == "disabled" else "offline")
            if mode != "disabled":
                _log.info("wandb is offline (%s): `wandb sync %s` uploads the run", why, Path(self._run.dir).parent)
        self._step = max(run.start_step, self._run.step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics; steps that the server has from before a resume are left as they are, it takes none twice."""
        if step >= self._step:
            self._step = step
            self._run.log(metrics, step=step)

    def pictures(self, paths: dict[str, Path]) -> None:
        import wandb

        if paths:
            self._run.log({name: wandb.Image(str(path)) for name, path in paths.items()}, step=self._step)

    def table(self, name: str, columns: list[str], rows: list[list]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=columns, data=rows)}, step=self._step)

    def finish(self, status: str, summary: dict) -> None:
        """Close the run: exit code 0 for finished, else 1; an interrupted run is also marked as preempted, which wandb
        shows as a run that goes on later."""
        self._run.summary.update(flatten({key: value for key, value in summary.items() if key != "settings"}, "/"))
        if status == "interrupted":
            self._run.mark_preempting()
        folder = Path(self._run.dir).parent
        try:
            self._run.finish(exit_code=0 if status == "finished" else 1)
        except TimeoutError:
            _log.warning(
                "wandb has not taken all of the run: `wandb sync --include-online %s` uploads the rest", folder
            )

    def _try_online(self, run: RunInfo) -> str | None:
        """Open the run online; where that fails, why."""
        import wandb

        _quieten("online")
        try:
            if not wandb.login(prompt=False, verify=False):
                return "no credentials found"
            self._run = self._open(run, "online")
        except (wandb.errors.CommError, TimeoutError) as error:
            wandb.teardown()  # else wandb's service goes on holding the id
            return (str(error) or type(error).__name__).splitlines()[0]
        return None

    def _open(self, run: RunInfo, mode: str) -> "wandb.Run":
        import wandb

        _quieten(mode)
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


def _quieten(mode: str) -> None:
    """Keep wandb off the console. It takes that only with a process's first settings, and those after a teardown."""
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True, mode=mode))

"""What follows when a run of a sweep fails: `continue` with the others, `stop`, or `retry:n`."""

import re
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from meanteacher.config.errors import UserError


class OnFailure(NamedTuple):
    """stop: start no more runs. retries: how often runs that are not finished are started again after the others."""

    stop: bool
    retries: int

    @classmethod
    def parse(cls, text: str) -> "OnFailure":
        """Raises UserError for anything but `continue`, `stop` and `retry:n`."""
        if text in ("continue", "stop"):
            return cls(text == "stop", 0)
        if match := re.fullmatch(r"retry:([1-9]\d{0,2})", str(text)):
            return cls(False, int(match[1]))
        raise UserError(f"hydra.sweeper.on_failure={text}: must be continue, stop or retry:n, such as retry:2")


def stop_file(sweep_folder: Path) -> Path:
    """The file that a failed run leaves where `stop` is chosen. No run of the sweep starts while it exists."""
    return sweep_folder / "stopped"


def stop_file_of_job(hydra: DictConfig) -> Path | None:
    """The `stop_file` for a job of a sweep, from Hydra's node; None if its sweeper does not stop at a failure."""
    chosen = OmegaConf.select(hydra, "sweeper.on_failure", default="continue")
    folder = Path(hydra.sweep.dir) / "sweeps" / str(hydra.job.name)
    return stop_file(folder) if OnFailure.parse(chosen).stop else None

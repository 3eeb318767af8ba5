"""Backends that record a run: one small class per backend, all with the interface of `Logger`.

`training`, `runs` and `sweeps` may import this folder. It may import only `config`, and no logger imports another one.
A logger imports its library when it starts, so that importing this folder is fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Describes a run to its loggers.

    folder: the run folder. id: the run's digest, the same after a resume. config: the resolved configuration as plain
    builtins. group, name, tags: how the run is found among others. steps: the length of the run in training steps.
    start_step: the step at which a resumed run continues, else 0. history: the metrics up to that step, each with its
    `step`. kind: `train`, or `comparison` for the run that holds the table of a sweep.
    """

    folder: Path
    id: str
    config: dict
    group: str
    name: str
    tags: list[str]
    steps: int
    start_step: int
    history: Sequence[dict] = ()
    kind: str = "train"


class Logger:
    """Base class of all loggers. Subclasses override the methods they need; here each of them does nothing.

    Metrics are named `train/loss`, `test/teacher/error`, `validation/student/ece` and so on. Errors are fractions.
    """

    def start(self, run: RunInfo) -> None:
        """Open the backend. In a resumed run, drop what was logged after `run.start_step`, if the backend can do so."""

    def on_step(self, step: int) -> None:
        """Called after every training step, so it must be fast."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics after `step` training steps."""

    def log_pictures(self, paths: dict[str, Path]) -> None:
        """Record picture files by name. The files are in the run folder and stay there."""

    def log_table(self, name: str, columns: list[str], rows: list[list]) -> None:
        """Record a table."""

    def finish(self, status: str, summary: dict) -> None:
        """Close the backend. status: `finished`, `interrupted` or `failed`. summary: the content of result.json."""

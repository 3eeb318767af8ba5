"""Where a run is watched: one small class per backend, all under one protocol."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a logger needs to know of a run when it starts.

    folder: the run folder; id: the run's digest (stable over resumes); config: resolved, plain builtins;
    group, name, tags: how the run is found among others; steps: the run's length; start_step: 0, or where a resumed run goes on;
    kind: train, or comparison for the run that holds a sweep's table.
    """

    folder: Path
    id: str
    config: dict
    group: str
    name: str
    tags: list[str]
    steps: int
    start_step: int
    kind: str = "train"


class Logger:
    """A backend; a subclass overrides what it has use for.

    Metrics are named `train/loss`, `test/teacher/error`, `validation/student/ece`, …
    """

    def start(self, run: RunInfo) -> None:
        """Open the backend; on a resumed run drop what was logged after `run.start_step`, where the backend can."""

    def alive(self, step: int) -> None:
        """Called after every step; must cost nothing."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics after `step` training steps."""

    def pictures(self, paths: dict[str, Path]) -> None:
        """Record pictures by name; the files are in the run folder and stay there."""

    def table(self, name: str, columns: list[str], rows: list[list]) -> None:
        """Record a table."""

    def finish(self, status: str, summary: dict) -> None:
        """Close the backend. status: finished, interrupted or failed; summary: result.json's content."""

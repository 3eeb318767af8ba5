"""Finds and reads results: folders, files, patterns and sweep folders become a list of runs."""

import glob
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.runs.result import Result
from meanteacher.runs.run_lock import is_held

SET_ASIDE = re.compile(r".*\.old-\d+")
"""Folders of runs that `fresh=true` renamed."""

UNREADABLE = ("unreadable", "without settings")
"""Statuses of runs whose file cannot be used."""


@dataclass(frozen=True)
class Run:
    """One run of a comparison.

    path: its result file, or where that file would be.
    status: the result's status; `killed` where it says `running` but no process trains the run; `not started`,
    `unreadable` or `without settings` where there is no usable result.
    reason: why the run is in no number; empty for a finished run.
    result: None where there is no usable result.
    """

    path: Path
    status: str
    reason: str = ""
    result: Result | None = None

    @property
    def folder(self) -> Path:
        """The run folder, or the result file where that was copied elsewhere."""
        return self.path.parent if self.path.name == "result.json" else self.path

    @property
    def finished(self) -> bool:
        return self.status == "finished"


def find_runs(paths: list[str | Path]) -> list[Run]:
    """The runs under the given paths, without duplicates, sorted by path.

    Raises UserError where there is no path, a path does not exist or holds no result, or no file can be used.
    """
    runs_by_path: dict[str, Run] = {}
    for path in expand_patterns(paths):
        for run in runs_below(path):
            runs_by_path.setdefault(os.path.realpath(run.path), run)
    runs = sorted(runs_by_path.values(), key=lambda run: str(run.path))
    if not runs:
        raise UserError("there is nothing to compare; give folders of runs or result files")
    if all(run.status in UNREADABLE for run in runs):
        more = f" (and {len(runs) - 1} more)" if len(runs) > 1 else ""
        raise UserError(f"{runs[0].path}: {runs[0].reason}{more}")
    return runs


def expand_patterns(paths: list[str | Path]) -> list[Path]:
    """The paths, with patterns replaced by their matches. Raises UserError for a path that does not exist."""
    expanded = []
    for path in paths:
        matches = [str(path)] if Path(path).exists() else sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(
                f"{path}: there is no such file or folder; give run folders, result files or a sweep folder"
            )
        expanded += map(Path, matches)
    return expanded


def runs_below(path: Path) -> list[Run]:
    """The runs of one file, sweep folder or folder of runs. Raises UserError where a folder holds no result.

    Runs of a folder that failed before anything was measured are left out: a typo or a missing download says nothing
    about a method. Those of a sweep are kept, since the sweep planned them.
    """
    if path.name == "sweep.json":
        path = path.parent
    if path.is_file():
        return [read_run(path)]
    if (path / "sweep.json").is_file():
        return planned_runs(path)
    runs = []
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not SET_ASIDE.fullmatch(name))
        runs += [read_run(Path(folder, "result.json"))] if "result.json" in files else []
    if not runs:
        raise UserError(f"{path}: no result.json in it; give a folder of runs, or result files as '{path}/*.json'")
    measured = [run for run in runs if not failed_at_start(run)]
    if not measured:
        raise UserError(f"{path}: every run in it failed before training started; the first one: {runs[0].reason}")
    return measured


def failed_at_start(run: Run) -> bool:
    """Whether a run failed before it had trained a step or logged a number."""
    if run.result is None or run.status != "failed" or run.result.models or run.result.steps:
        return False
    metrics = run.folder / "metrics.jsonl"
    return not (metrics.is_file() and metrics.stat().st_size)


def read_sweep(path: Path) -> dict:
    """The content of a folder's sweep.json. Raises UserError where it cannot be read or names no runs."""
    try:
        content = json.loads((path / "sweep.json").read_text(encoding="utf-8"))
        [Path(run["folder"]) for run in content["runs"]]  # raises TypeError for what is no path
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}/sweep.json: cannot be used ({error!r}); repair it, or give the run folders") from None
    if not content["runs"]:
        raise UserError(f"{path}/sweep.json: names no runs; start the sweep, or give run folders")
    return content


def planned_runs(path: Path) -> list[Run]:
    """The runs of a sweep. A run without a result has the status `not started`."""
    runs = []
    for planned in read_sweep(path)["runs"]:
        file = Path(os.path.normpath(path / planned["folder"])) / "result.json"
        overrides = " ".join(planned.get("overrides", []))
        runs.append(read_run(file) if file.exists() else Run(file, "not started", overrides))
    return runs


def read_run(path: Path) -> Run:
    """The run of one result file. A file that cannot be used gives a run with that status and the reason."""
    try:
        result = Result.read(path)
    except UserError as error:
        return Run(path, "unreadable", str(error).removeprefix(f"{path}: "))
    if result.settings is None:
        reason = "holds no settings, so its protocol is unknown; repeat the run with fresh=true"
        return Run(path, "without settings", reason, result)
    if result.status == "finished" and not result.models:
        return Run(path, "unreadable", "finished, but has no scores of any network; repeat the run with fresh=true")
    held = is_held(path.parent) if path.name == "result.json" and result.status == "running" else None
    status = "killed" if held is False else result.status
    return Run(path, status, reason_unfinished(result, path.parent, held), result)


def reason_unfinished(result: Result, folder: Path, held: bool | None) -> str:
    """Why a run is in no number; empty for a finished run. folder: the run folder; held: see `is_held`."""
    if result.status == "finished":
        return ""
    if result.status == "interrupted":
        step = "an unknown step" if result.steps is None else f"step {result.steps}"
        return f"Interrupted at {step}. Rerun the command to resume: {result.from_anywhere(folder)}"
    if held is False:
        return f"Killed, or its machine stopped. Rerun the command to resume: {result.from_anywhere(folder)}"
    if result.status == "running":
        return "Running." if held else "Running or crashed; rerun the command to resume."
    return " ".join((result.reason or "no reason given").split())

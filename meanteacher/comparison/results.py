"""Finds and reads results: folders, files, patterns and sweep folders become a list of runs."""

import glob
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from meanteacher.config.errors import UserError

SET_ASIDE = re.compile(r".*\.old-\d+")
UNREADABLE = ("unreadable", "without settings")
"""What is said in place of a run's own status where its file can't be used."""


@dataclass(frozen=True)
class Run:
    """One run. path: its result file, or where that would be; status: its own, or what is wrong with the file.

    reason: why it has no part in any number, empty where it finished; result: the file's content, {} where there is none.
    """

    path: Path
    status: str
    reason: str = ""
    result: dict = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where a reader looks: the run folder, or a result file that was copied elsewhere."""
        return self.path.parent if self.path.name == "result.json" else self.path


def find(paths: list[str | Path]) -> list[Run]:
    """The runs under the given paths, each once, in the order of their paths.

    Raises UserError where there is no path, one does not exist or holds no result, or none of the files can be used.
    """
    found: dict[str, Run] = {}
    for path in expand(paths):
        for run in below(path):
            found.setdefault(os.path.realpath(run.path), run)
    runs = sorted(found.values(), key=lambda run: str(run.path))
    if not runs:
        raise UserError("there is nothing to compare; give folders of runs or result files")
    if all(run.status in UNREADABLE for run in runs):
        more = f" (and {len(runs) - 1} more)" if len(runs) > 1 else ""
        raise UserError(f"{runs[0].path}: {runs[0].reason}{more}")
    return runs


def expand(paths: list[str | Path]) -> list[Path]:
    """The paths, with patterns replaced by what they match. Raises UserError for what does not exist."""
    found = []
    for path in paths:
        matches = [str(path)] if Path(path).exists() else sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(
                f"{path}: there is no such file or folder; give run folders, result files or a sweep folder"
            )
        found += map(Path, matches)
    return found


def below(path: Path) -> list[Run]:
    """The runs that one path stands for. Raises UserError where a folder holds no result."""
    if path.name == "sweep.json":
        path = path.parent
    if path.is_file():
        return [read(path)]
    if (path / "sweep.json").is_file():
        return swept(path)
    runs = []
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not SET_ASIDE.fullmatch(name))
        runs += [read(Path(folder, "result.json"))] if "result.json" in files else []
    if not runs:
        raise UserError(f"{path}: no result.json in it; give a folder of runs, or result files as '{path}/*.json'")
    return runs


def sweep(path: Path) -> dict:
    """sweep.json's content. Raises UserError where it can't be read or names no runs."""
    try:
        found = json.loads((path / "sweep.json").read_text())
        [run["folder"] for run in found["runs"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}/sweep.json: cannot be used ({error!r}); repair it, or give the run folders") from None
    if not found["runs"]:
        raise UserError(f"{path}/sweep.json: names no runs; start the sweep, or give run folders")
    return found


def swept(path: Path) -> list[Run]:
    """The runs of a sweep; one without a result is `not started`."""
    runs = []
    for planned in sweep(path)["runs"]:
        file = Path(os.path.normpath(path / planned["folder"])) / "result.json"
        overrides = " ".join(planned.get("overrides", []))
        runs.append(read(file) if file.exists() else Run(file, "not started", overrides))
    return runs


def read(path: Path) -> Run:
    """One result file. Whatever is wrong with it becomes the run's status and reason."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return Run(path, "unreadable", f"not readable as JSON ({error}); repair the file or run it again")
    known = isinstance(result, dict) and {"status", "names", "label", "seed", "split_seed"} <= result.keys()
    if not known or not isinstance(result["names"], dict):
        return Run(path, "unreadable", "not a run's result; give result.json files")
    if not isinstance(result.get("settings"), dict):
        reason = "holds no settings, so what it may be compared with is unknown; run it again with fresh=true"
        return Run(path, "without settings", reason, {"names": result["names"]})
    if result["status"] == "finished" and not result.get("models"):
        return Run(path, "unreadable", "finished, but names no network it measured; run it again with fresh=true")
    return Run(path, result["status"], unfinished(result), result)


def unfinished(result: dict) -> str:
    """Why a run has no part in the numbers; empty for a finished one."""
    if result["status"] == "finished":
        return ""
    if result["status"] == "interrupted":
        return f"stopped at step {result.get('steps', 'unknown')}; its command goes on: {result.get('command', '')}"
    if result["status"] == "running":
        return "still running, or ended without a word; its command goes on where the last checkpoint is"
    return " ".join(str(result.get("reason", "no reason given")).split())

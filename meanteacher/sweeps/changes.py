"""What has changed since the last sweep of the same name in the output folder."""

from pathlib import Path

from meanteacher.comparison.results import read_sweep
from meanteacher.config.digest import WATCHING, flatten
from meanteacher.config.errors import UserError
from meanteacher.runs.result import Result
from meanteacher.sweeps.sweep import Job, Sweep

MOST_KEYS = 5
"""More changed settings than these are not all named."""


def describe_changes(sweep: Sweep) -> list[str]:
    """Sentences that compare this sweep with the last one of its name: the runs of both, the settings that differ.

    Empty if there is no other sweep of this name, or if this one has been started before. Only reads files.
    """
    others = [path for path in sweep.folder.parent.glob(f"{sweep.name}-*/sweep.json") if path.parent != sweep.folder]
    if (sweep.folder / "sweep.json").exists() or not others:
        return []
    last = max(others, key=lambda path: path.stat().st_mtime)
    try:
        folders = {(last.parent / run["folder"]).resolve() for run in read_sweep(last.parent)["runs"]}
    except (UserError, ValueError):  # resolve() raises ValueError for a path with a null character
        return []
    shared = sum(job.folder.resolve() in folders for job in sweep.jobs)
    sentence = f"since {last.parent.name}, which is kept: {shared} of these {len(sweep.jobs)} runs are also in it"
    keys = changed_settings(sweep.jobs, folders) if shared < len(sweep.jobs) else []
    more = [f"and {len(keys) - MOST_KEYS} more"] if len(keys) > MOST_KEYS else []
    return [sentence, *(["; ".join([*keys[:MOST_KEYS], *more])] if keys else [])]


def changed_settings(jobs: list[Job], folders: set[Path]) -> list[str]:
    """The `describe_differences` of the first new job that has a run of its method, labels and seed among `folders`."""
    earlier = {}
    for folder in folders:
        try:
            result = Result.read(folder / "result.json")
        except UserError:
            continue
        earlier[result.choices.get("method"), result.label, result.seed] = result.settings
    for job in jobs:
        key = job.choices.method, job.settings.label, job.settings.seed
        if key in earlier and job.folder.resolve() not in folders:
            return describe_differences(earlier[key], job.settings.as_dict())
    return []


def describe_differences(before: dict, now: dict) -> list[str]:
    """`key: earlier value → value now` for each setting that differs, without the keys in `WATCHING`."""
    old, new = (flatten({k: v for k, v in each.items() if k not in WATCHING}, ".") for each in (before, now))
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]

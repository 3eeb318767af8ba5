"""The notes and commands at the end of a comparison, and the list of runs that are in no number."""

import shlex
from pathlib import Path

from meanteacher.comparison.results import Run, read_sweep
from meanteacher.comparison.statistics import Statistics
from meanteacher.runs.result import BASELINE

REPEATED = "another finished run has the same settings, seed and labeled images but other scores; keep one of them"

MIXED = {
    "commit": ("Commits", ""),
    "source": ("Source code", "; numbers of different source code are compared"),
    "hardware": ("Hardware", "; cost is not comparable"),
}
"""Columns whose values a reader must know: their name, and what follows where the runs do not share one value."""


def list_problems(runs: list[Run], repeated: list[int]) -> list[dict]:
    """Every run that is in no number, and why. repeated: numbers of the runs that contradict another run."""
    problems = []
    for number, run in enumerate(runs):
        if run.finished and number not in repeated:
            continue
        result = run.result
        problems.append(
            {
                "status": "repeated" if number in repeated else run.status,
                "method": result.method if result else None,
                "label": result.label if result else None,
                "seed": result.seed if result else None,
                "reason": REPEATED if number in repeated else run.reason,
                "folder": str(run.folder),
            }
        )
    return problems


def write_notes(runs: list[Run], numbers: Statistics) -> list[str]:
    """What a reader must know to judge how far the numbers can be trusted."""
    lines = [
        "A method is judged at the last step by the network that it deploys, the last of its networks; "
        f"{BASELINE} is judged by the better of its two networks, which makes it harder to beat."
    ]
    summary, counted = numbers.summary, numbers.counted
    variants = summary[summary["deployed"]].groupby(["protocol", "method"])["variant"].nunique()
    if (variants > 1).any():
        lines.append("Of a method's variants, the best one is the best on the test part, so its error is optimistic.")
    seeds = counted.groupby(["protocol", "label", "point", "variant"])["seed"].agg(frozenset)
    if (seeds.groupby(["protocol", "label", "point"]).nunique() > 1).any():
        lines.append(
            "Not all means at a label count are over the same seeds; paired differences are over shared seeds only."
        )
    for column, (name, warning) in MIXED.items():
        values = counted[column].fillna("unknown").value_counts()
        shown = ", ".join(f"{value} ({n} runs)" if len(values) > 1 else str(value) for value, n in values.items())
        lines += [f"{name}: {shown}{warning if len(values) > 1 else ''}."] if shown else []
    return lines + count_notes(runs, numbers)


def count_notes(runs: list[Run], numbers: Statistics) -> list[str]:
    """Notes on copies, on runs that are not bitwise repeatable, and on runs that cannot be paired."""
    lines, copies = [], numbers.copies
    if len(numbers.at_points) > len(numbers.table):
        lines.append(f"{BASELINE} uses no unlabeled images, so each of its runs counts at every point of the axis.")
    if copies:
        lines.append(
            f"{copies} finished run{'s occur' if copies > 1 else ' occurs'} twice with equal scores; counted once."
        )
    moved = sum(run.finished and run.result.bitwise is False for run in runs)
    if moved:
        lines.append(
            f"Resumed on another device or with another number of threads, so not bitwise repeatable: {moved} "
            f"run{'s' if moved > 1 else ''}."
        )
    unpaired = int(numbers.counted["split_digest"].isna().sum())
    if unpaired:
        which = "1 run does" if unpaired == 1 else f"{unpaired} runs do"
        lines.append(f"{which} not record which images were labeled and cannot be paired.")
    return lines


def list_commands(paths: list[str | Path], out: Path, title: str, runs: list[Run]) -> list[str]:
    """The commands that repeat the runs (at most ten of them) and this comparison."""
    commands = list(dict.fromkeys(run.result.command for run in runs if run.result and run.result.command))
    swept = [Path(path) for path in paths if (Path(path) / "sweep.json").is_file()]
    if swept and len(swept) == len(paths):
        commands = [str(read_sweep(path).get("command", "")) for path in swept]
    more = [f"# and {len(commands) - 10} more: `command` in each result.json"] if len(commands) > 10 else []
    compare = ["meanteacher", "compare", *map(str, paths), "--out", str(out), "--title", title]
    return [*commands[:10], *more, shlex.join(compare)]

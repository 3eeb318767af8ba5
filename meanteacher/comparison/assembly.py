"""A comparison put together: from paths to the content of its files."""

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from meanteacher.comparison import page, pictures, statistics, tables
from meanteacher.comparison.protocols import BASELINE, Protocol, group
from meanteacher.comparison.published import published
from meanteacher.comparison.results import Run, find, sweep
from meanteacher.comparison.verdicts import verdicts

COLUMNS = [
    *("status", "counted", "protocol", "variant", "method", "dataset", "label", "seed", "split_seed", "network"),
    *("deployed", "error_last", "error_median_last_20", "error_best_on_test", "ece", "images_per_second"),
    *("training_seconds", "peak_memory_bytes", "digest", "commit", "folder"),
]


def assemble(paths: list[str | Path], out: Path, title: str | None) -> tuple[dict[str, str | bytes], dict]:
    """The files' content by name, and what `Comparison` holds beside them. Raises UserError."""
    runs = find(paths)
    protocols, places = group(runs)
    table, repeated, copies = statistics.leave_out_repeats(statistics.tidy(runs, places), runs)
    table = statistics.judge(table)
    found = statistics.summary(table, protocols)
    compared = [pair for protocol in protocols for pair in statistics.pairs(table, found, protocol.letter)]
    problems = unusable(runs, repeated)
    title = title or heading(paths)
    said = verdicts(protocols, found, compared, problems)
    reference = published(protocols)
    errors = error_tables(protocols, found)
    document = page.Document(
        title=title,
        verdicts=said,
        protocols=protocol_lines(protocols),
        tables=[*errors, *other_tables(protocols, table, found, compared, reference, problems)],
        runs=tables.run_table(table, [links(run, out) for run in runs]),
        notes=notes(runs, table, found, copies),
        commands=commands(paths, out, title, runs),
    )
    figure = pictures.draw(protocols, table, found, reference, title)
    svg = pictures.saved(figure, "svg")
    content = {
        "comparison.md": page.markdown(document),
        "comparison.html": page.html(document, svg.decode()),
        "comparison.csv": table[COLUMNS].to_csv(index=False),
        "comparison.json": as_json(document, protocols, table, found, compared, problems),
        "comparison.png": pictures.saved(figure, "png"),
        "comparison.svg": svg,
    }
    shown = "\n\n".join(f"{each.heading}\n\n{page.markdown_table(each)}" for each in errors)
    finished = int(table.loc[table["counted"], "run"].nunique())
    return content, {"verdicts": said, "summary": found, "errors": shown, "problems": problems, "finished": finished}


def unusable(runs: list[Run], repeated: list[int]) -> list[dict]:
    """Every run that is in no number, and why."""
    found = []
    for number, run in enumerate(runs):
        if run.status == "finished" and number not in repeated:
            continue
        again = (
            "another finished run has the same settings, seed and labeled images but other numbers; keep one of them"
        )
        result = run.result
        found.append(
            {
                "status": "repeated" if number in repeated else run.status,
                "method": result.get("names", {}).get("method"),
                "label": result.get("label"),
                "seed": result.get("seed"),
                "reason": again if number in repeated else run.reason,
                "folder": str(run.folder),
            }
        )
    return found


def heading(paths: list[str | Path]) -> str:
    """The sweep's name where one sweep is compared."""
    only = Path(paths[0])
    one = len(paths) == 1 and (only / "sweep.json").is_file()
    return f"Comparison: {sweep(only).get('name') or only.resolve().name}" if one else "Comparison"


def protocol_lines(protocols: list[Protocol]) -> list[str]:
    """What the runs share, and by what the protocols differ, which are never mixed."""
    if len(protocols) < 2:
        return [f"Protocol: {protocol.shared}." for protocol in protocols]
    apart = "; ".join(f"{protocol.letter}: {protocol.differs}" for protocol in protocols)
    return [f"Protocols, never mixed in a number: {apart}.", f"Shared by all: {protocols[0].shared or 'nothing else'}."]


def error_tables(protocols: list[Protocol], found: pd.DataFrame) -> list[tables.Table]:
    """Per protocol, the error at the last step."""
    made = []
    for protocol in protocols:
        name = tables.titled("Error at the last step (%)", protocol, protocols)
        made.append(tables.error_table(name, "error_last", protocol, found[found["protocol"] == protocol.letter]))
    return [table for table in made if table]


def other_tables(
    protocols: list[Protocol],
    table: pd.DataFrame,
    found: pd.DataFrame,
    pairs: list[statistics.Pair],
    reference: pd.DataFrame,
    problems: list[dict],
) -> list[tables.Table]:
    """All tables but the first ones, in the order they are read; empty ones left out."""
    made: dict[str, list[tables.Table | None]] = {}
    costs = statistics.cost(table, found)
    for protocol in protocols:
        letter = protocol.letter

        def name(text: str, protocol: Protocol = protocol) -> str:
            return tables.titled(text, protocol, protocols)

        here, its = found[found["protocol"] == letter], [pair for pair in pairs if pair.protocol == letter]
        median = name("Median error of the last 20 evaluations (%)")
        for kind, each in {
            "median": tables.error_table(median, "error_median_last_20", protocol, here),
            "pairs": tables.pair_table(name("Paired differences"), its, protocol.decimals),
            "labels": tables.efficiency_table(name("Label efficiency"), statistics.efficiency(found, letter)),
            "cost": tables.cost_table(name("Calibration and cost"), costs[costs["protocol"] == letter]),
        }.items():
            made.setdefault(kind, []).append(each)
    last = [tables.published_table(reference), tables.problem_table(problems)]
    return [each for each in [*sum(made.values(), []), *last] if each and each.rows]


def notes(runs: list[Run], table: pd.DataFrame, found: pd.DataFrame, copies: int) -> list[str]:
    """What a reader must know to trust the numbers, or not to."""
    counted = table[table["counted"] & table["deployed"]]
    several = found[found["deployed"]].groupby(["protocol", "method"])["variant"].nunique()
    lines = [
        "A method is judged by the network it deploys, the last of its networks, at the last step; "
        f"{BASELINE} by the better one of its two, which makes it harder to beat."
    ]
    if (several > 1).any():
        lines.append("Of several variants of a method the best is the best on the test part, so its error flatters it.")
    seeds = (
        counted.groupby(["protocol", "label", "variant"])["seed"]
        .agg(frozenset)
        .groupby(["protocol", "label"])
        .nunique()
    )
    if (seeds > 1).any():
        lines.append(
            "Not all means at a label count are over the same seeds; the paired differences use shared ones alone."
        )
    for name, what in {"commit": "Commits", "source": "Source code", "hardware": "Hardware"}.items():
        values = counted[name].fillna("unknown").value_counts()
        shown = ", ".join(f"{value} ({n} runs)" if len(values) > 1 else str(value) for value, n in values.items())
        mixed = {"source": "; numbers of different source code are compared", "hardware": "; cost is not comparable"}
        lines += [f"{what}: {shown}{mixed.get(name, '') if len(values) > 1 else ''}."] if shown else []
    if copies:
        lines.append(
            f"{copies} finished run{'s occur' if copies > 1 else ' occurs'} twice with the same numbers; counted once."
        )
    moved = sum(run.status == "finished" and run.result.get("bitwise") is False for run in runs)
    if moved:
        lines.append(f"Resumed on another device or number of threads, so not repeatable to the bit: {moved} runs.")
    unpaired = int(counted["split_digest"].isna().sum())
    if unpaired:
        lines.append(f"{unpaired} runs do not say which images were labeled, so they are in no paired difference.")
    return lines


def commands(paths: list[str | Path], out: Path, title: str, runs: list[Run]) -> list[str]:
    """How to make the runs and this comparison again."""
    made = list(dict.fromkeys(run.result["command"] for run in runs if run.result.get("command")))
    swept = [Path(path) for path in paths if (Path(path) / "sweep.json").is_file()]
    if swept and len(swept) == len(paths):
        made = [str(sweep(path).get("command", "")) for path in swept]
    more = [f"# and {len(made) - 10} more: `command` in each result.json"] if len(made) > 10 else []
    again = ["python", "-m", "meanteacher.comparison.command", *map(str, paths), "--out", str(out), "--title", title]
    return [*made[:10], *more, shlex.join(again)]


def links(run: Run, out: Path) -> list[tuple[str, str]]:
    """What can be opened of a run, relative to the page."""
    files = {"result.json": run.path}
    if run.path.name == "result.json":
        files = {"curves": run.folder / "plots" / "curves.png", "config": run.folder / "config.yaml"} | files
    return [
        (text, quote(os.path.relpath(path.resolve(), out.resolve()))) for text, path in files.items() if path.is_file()
    ]


def as_json(
    document: page.Document,
    protocols: list[Protocol],
    table: pd.DataFrame,
    found: pd.DataFrame,
    pairs: list[statistics.Pair],
    problems: list[dict],
) -> str:
    """All numbers as JSON, errors as fractions, what is missing as null."""
    efficiency = [row for protocol in protocols for row in statistics.efficiency(found, protocol.letter)]
    content = {
        "title": document.title,
        "verdicts": document.verdicts,
        "protocols": [
            {name: getattr(p, name) for name in ("letter", "shared", "differs", "fields")} for p in protocols
        ],
        "summary": records(found),
        "pairs": [asdict(pair) | {"judgement": pair.judgement} for pair in pairs],
        "efficiency": efficiency,
        "cost": records(statistics.cost(table, found)),
        "problems": problems,
        "notes": document.notes,
        "commands": document.commands,
        "runs": records(table[COLUMNS]),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def records(table: pd.DataFrame) -> list[dict]:
    """Rows as dictionaries of builtins, with None for what is missing."""
    return [
        {name: None if pd.isna(value) else getattr(value, "item", lambda v=value: v)() for name, value in row.items()}
        for row in table.to_dict("records")
    ]

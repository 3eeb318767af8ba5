"""Assembles a comparison: from paths of runs to the content of its files."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from meanteacher.comparison import page, pictures, tables
from meanteacher.comparison.budget import budget_sentence, budget_table, count_settings
from meanteacher.comparison.class_scores import class_tables
from meanteacher.comparison.notes import list_commands, list_problems, write_notes
from meanteacher.comparison.protocols import Protocol, group_runs, protocol_lines, transfer_sentence
from meanteacher.comparison.pseudo_labels import pseudo_label_table
from meanteacher.comparison.published import published_for
from meanteacher.comparison.results import Run, find_runs, read_sweep
from meanteacher.comparison.rows import CLASS_SCORES, PSEUDO_LABELS
from meanteacher.comparison.statistics import Statistics, compute_statistics
from meanteacher.comparison.verdicts import write_captions, write_verdicts
from meanteacher.config.added_keys import SCENARIO

COLUMNS = [
    *("status", "counted", "protocol", "variant", "method", "dataset", "label", "seed", "split_seed", "network"),
    *("deployed", "error_last", "error_median_last_20", "error_best_on_test", "ece", "images_per_second"),
    *("training_seconds", "peak_memory_bytes", "digest", "commit", "folder"),
    *(f"pseudo_label_{name}" for name in PSEUDO_LABELS),
]
"""Columns of comparison.csv. Those of `OPTIONAL_COLUMNS` follow where a run has them."""

OPTIONAL_COLUMNS = (*SCENARIO, *CLASS_SCORES)


@dataclass(frozen=True)
class Assembly:
    """A comparison before it is written.

    files: content by name; errors: the error tables; problems: see `list_problems`.
    """

    files: dict[str, str | bytes]
    document: page.Document
    numbers: Statistics
    errors: list[tables.Table]
    problems: list[dict]


def assemble(paths: list[str | Path], out: Path, title: str | None) -> Assembly:
    """Read the runs under `paths` and compute all content. Nothing is written. Raises UserError."""
    runs = find_runs(paths)
    protocols, places = group_runs(runs)
    numbers = compute_statistics(runs, protocols, places)
    problems = list_problems(runs, numbers.repeated)
    title = title or default_title(paths)
    published, settings = published_for(protocols), count_settings(runs)
    errors = error_tables("Error at the last step (%)", "error_last", protocols, numbers)
    document = page.Document(
        title=title,
        verdicts=write_verdicts(protocols, numbers, problems),
        captions=write_captions(protocols, numbers),
        protocols=protocol_lines(protocols),
        tables=[*errors, *further_tables(protocols, numbers, published, [budget_table(settings)], problems, runs)],
        runs=tables.runs_table(numbers.table, [file_links(run, out) for run in runs]),
        notes=[*filter(None, [budget_sentence(settings)]), *write_notes(runs, numbers)],
        commands=list_commands(paths, out, title, runs),
    )
    figure = pictures.draw(protocols, numbers, published, title)
    svg = pictures.render(figure, "svg")
    files = {
        "comparison.md": page.markdown(document),
        "comparison.html": page.html(document, svg.decode()),
        "comparison.csv": numbers.table[columns_of(numbers)].to_csv(index=False),
        "comparison.json": to_json(document, protocols, numbers, problems),
        "comparison.png": pictures.render(figure, "png"),
        "comparison.svg": svg,
    }
    return Assembly(files, document, numbers, errors, problems)


def default_title(paths: list[str | Path]) -> str:
    """The name of the sweep where a single sweep is compared."""
    first = Path(paths[0])
    if len(paths) == 1 and (first / "sweep.json").is_file():
        return f"Comparison: {read_sweep(first).get('name') or first.resolve().name}"
    return "Comparison"


def error_tables(text: str, score: str, protocols: list[Protocol], numbers: Statistics) -> list[tables.Table]:
    """A table of a score per protocol, without those in which nothing was measured."""
    made = [
        tables.error_table(tables.heading_of(text, protocol, protocols), score, protocol, numbers.summary_of(protocol))
        for protocol in protocols
    ]
    return [
        replace(table, note=f"{table.note} {transfer_sentence(protocol, protocols)}")
        for table, protocol in zip(made, protocols, strict=True)
        if table
    ]


def further_tables(
    protocols: list[Protocol],
    numbers: Statistics,
    published: pd.DataFrame,
    budget: list[tables.Table],
    problems: list[dict],
    runs: list[Run],
) -> list[tables.Table]:
    """All tables after the first ones, in reading order, without empty ones."""
    median = "Median error of the last 20 evaluations (%)"
    pairs, labels, pseudo_labels, classes, costs = [], [], [], [], []
    for protocol in protocols:

        def heading(text: str, protocol: Protocol = protocol) -> str:
            return tables.heading_of(text, protocol, protocols)

        differences = numbers.pairs_of(protocol)
        pairs.append(tables.pair_table(heading("Paired differences"), differences, protocol))
        rows = [row for row in numbers.efficiency if row["protocol"] == protocol.letter]
        labels.append(tables.efficiency_table(heading("Label efficiency"), rows))
        pseudo_labels.append(pseudo_label_table(heading("Pseudo-labels (%)"), numbers, protocol))
        cost = numbers.cost[numbers.cost["protocol"] == protocol.letter]
        classes += class_tables(protocol, protocols, numbers, runs)
        costs.append(tables.cost_table(heading("Calibration and cost"), cost, protocol.axis))
    medians = error_tables(median, "error_median_last_20", protocols, numbers)
    last = [*budget, tables.published_table(published), tables.problem_table(problems)]
    return [table for table in [*medians, *pairs, *labels, *classes, *pseudo_labels, *costs, *last] if table.rows]


def columns_of(numbers: Statistics) -> list[str]:
    """The columns of comparison.csv."""
    return [*COLUMNS, *(name for name in OPTIONAL_COLUMNS if numbers.table[name].notna().any())]


def file_links(run: Run, out: Path) -> list[tuple[str, str]]:
    """Text and address (relative to the page) of a run's files."""
    files = {"result.json": run.path}
    if run.path.name == "result.json":
        files = {"curves": run.folder / "plots" / "curves.png", "config": run.folder / "config.yaml"} | files
    return [
        (text, quote(os.path.relpath(path.resolve(), out.resolve()))) for text, path in files.items() if path.is_file()
    ]


def to_json(document: page.Document, protocols: list[Protocol], numbers: Statistics, problems: list[dict]) -> str:
    """All numbers as JSON: errors as fractions, missing values as null."""
    content = {
        "title": document.title,
        "verdicts": document.verdicts,
        "captions": document.captions,
        "protocols": [
            {name: getattr(p, name) for name in ("letter", "shared", "differs", "fields")} for p in protocols
        ],
        "summary": to_records(numbers.summary),
        "pairs": [asdict(pair) | {"verdict": pair.verdict} for pair in numbers.pairs],
        "efficiency": numbers.efficiency,
        "cost": to_records(numbers.cost),
        "problems": problems,
        "notes": document.notes,
        "commands": document.commands,
        "runs": to_records(numbers.table[columns_of(numbers)]),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def to_records(table: pd.DataFrame) -> list[dict]:
    """Rows as dictionaries of Python's own types, with None for missing values."""
    return [
        {name: None if pd.isna(value) else getattr(value, "item", lambda v=value: v)() for name, value in row.items()}
        for row in table.to_dict("records")
    ]

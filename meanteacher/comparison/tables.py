"""What a comparison shows, as tables of text that Markdown and the page both draw."""

from dataclasses import dataclass, field

import pandas as pd

from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.statistics import Pair, label_order, label_text, labels_of
from meanteacher.comparison.verdicts import interval, signed, spread


@dataclass(frozen=True)
class Cell:
    """text: what is read; value: what the page sorts by, None (last) where there is nothing; links: text and address."""

    text: str
    value: float | str | None = None
    bold: bool = False
    links: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """One table under one heading; note: a sentence below it."""

    heading: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""


def word(text) -> Cell:
    return Cell("–") if pd.isna(text) or text == "" else Cell(str(text), str(text))


def number(value, pattern: str, scale: float = 1) -> Cell:
    return Cell("–") if value is None or pd.isna(value) else Cell(format(scale * value, pattern), float(value))


def labels(label: int | str | None) -> Cell:
    """A label count; `all` sorts after every number."""
    return Cell("–") if label is None else Cell(str(label), min(label_order(label), 1e300))


def titled(heading: str, protocol: Protocol, protocols: list[Protocol]) -> str:
    return f"{heading}, {protocol.letter}" if len(protocols) > 1 else heading


def error_table(heading: str, score: str, protocol: Protocol, found: pd.DataFrame) -> Table | None:
    """Methods and networks by label count, the smallest mean of a deployed network bold; None where nothing was measured.

    found: one protocol's summary; score: `error_last` or `error_median_last_20`.
    """
    measured = found[found[score].notna()]
    if measured.empty:
        return None
    columns = labels_of(measured)
    smallest = measured[measured["deployed"]].groupby("label")[score].min()
    rows = []
    for (variant, network), its in measured.groupby(["variant", "network"], sort=False):
        by_label = {row["label"]: row for row in its.to_dict("records")}
        cells = [word(variant), word(network)]
        for label in columns:
            row = by_label.get(label)
            text = spread(row[score], row[f"{score}_std"], protocol.decimals) if row else "–"
            bold = bool(row) and row["deployed"] and row[score] == smallest[label]
            cells.append(Cell(text, row[score] if row else None, bold))
        counts = [by_label[label]["n"] if label in by_label else 0 for label in columns]
        text = str(max(counts)) if len({*counts} - {0}) == 1 else " / ".join(map(str, counts))
        rows.append([*cells, Cell(text, max(counts))])
    note = "Mean ± standard deviation (n − 1) over n seeds; bold: the smallest mean of the networks that methods are judged by."
    return Table(heading, ["method", "network", *map(label_text, columns), "n"], rows, note)


def pair_table(heading: str, pairs: list[Pair], decimals: int) -> Table:
    rows = []
    for pair in pairs:
        known = pair.difference is not None
        rows.append(
            [
                labels(pair.label),
                word(pair.variant),
                word(f"{pair.against} ({pair.about})"),
                Cell(signed(100 * pair.difference, decimals), pair.difference) if known else Cell("–"),
                Cell(interval(pair, decimals), pair.low) if pair.low is not None else Cell("–"),
                Cell(str(pair.n), pair.n),
                word(pair.judgement),
            ]
        )
    note = (
        "Points of error that the method has less than the other (positive: it is better), over runs that share seed and "
        "labeled images; 95 % interval by Student's t, each for itself, not corrected for their number."
    )
    return Table(heading, ["labels", "method", "against", "points", "95 % interval", "n", "verdict"], rows, note)


def efficiency_table(heading: str, rows: list[dict]) -> Table:
    cells = []
    for row in rows:
        low, high, label = row["low"], row["high"], row["label"]
        if low is None:
            needed, ratio = Cell(f"< {high:g}", high), Cell(f"< {high / label:.2g}×", high / label)
        elif high is None:
            needed, ratio = Cell(f"> {low:g}", low), Cell(f"> {low / label:.2g}×", low / label)
        else:
            needed, ratio = Cell(f"{low:.0f}", low), Cell(f"{low / label:.2g}×", low / label)
        cells.append([word(row["variant"]), Cell(str(label), label), needed, ratio])
    note = (
        "Labels with which supervised has the same mean error, read off straight lines between its label counts on a "
        "logarithmic scale; > and <: beyond the counts that were run."
    )
    return Table(heading, ["method", "labels", "labels supervised needs", "ratio"], cells, note)


def cost_table(heading: str, costs: pd.DataFrame) -> Table:
    rows = [
        [
            word(row.variant),
            word(row.network),
            labels(row.label),
            Cell(spread(row.ece, row.ece_std, 1), None if pd.isna(row.ece) else row.ece),
            number(row.images_per_second, ".0f"),
            number(row.training_seconds, ".2g", 1 / 3600),
            number(row.training_seconds_in_all, ".2g", 1 / 3600),
            number(row.peak_memory_bytes, ".2f", 2**-30),
            Cell(str(row.n), row.n),
        ]
        for row in costs.itertuples()
    ]
    columns = [
        "method",
        "network",
        "labels",
        "ECE (%)",
        "images/s",
        "hours a run",
        "hours in all",
        "peak memory (GiB)",
        "n",
    ]
    note = (
        "ECE: calibration error of the deployed network, mean ± standard deviation. Images a second: median over runs, "
        "evaluation left out; hours of training: mean and sum; memory: the greatest."
    )
    return Table(heading, columns, rows, note)


def published_table(rows: pd.DataFrame) -> Table:
    """A row per published series, a column per label count; percent, as printed there."""
    columns = labels_of(rows)
    about = ["dataset", "method", "network", "selection", "source", "protocol"]
    cells = []
    for (dataset, method, network, selection, source, protocol), its in rows.groupby(about, sort=False):
        numbers = []
        for label in columns:
            here = its[its["label"] == label]
            deviations = "".join(f" ± {value:.2f}" for value in here["std"].dropna())
            numbers += [Cell(f"{error:.2f}{deviations}", error) for error in here["error"]] or [Cell("–")]
        cells.append(
            [word(f"{method} (published)"), word(dataset), word(network), *numbers, word(selection), word(source)]
        )
        cells[-1].append(word(protocol))
    headers = ["method", "dataset", "network", *map(label_text, columns), "which evaluation", "source", "protocol"]
    note = "Made by others under protocols of their own: for orientation, not part of any verdict."
    return Table("Published errors (%)", headers, cells, note)


def problem_table(problems: list[dict]) -> Table:
    columns = ["status", "method", "label", "seed", "reason", "folder"]
    rows = [[word(problem[name]) for name in columns] for problem in problems]
    return Table("Problems", columns, rows, "These runs are in no mean, difference or verdict.")


def run_table(table: pd.DataFrame, links: list[list[tuple[str, str]]]) -> Table:
    """Every run and network. links: per run, text and address of what can be opened."""
    rows = [
        [
            word(row.status if row.counted or row.status != "finished" else "finished, not counted"),
            word(row.protocol),
            word(row.variant or row.method),
            labels(row.label),
            number(row.seed, ".0f"),
            word(row.network),
            number(row.error_last, ".2f", 100),
            number(row.error_median_last_20, ".2f", 100),
            number(row.ece, ".1f", 100),
            number(row.images_per_second, ".0f"),
            number(row.training_seconds, ".3g", 1 / 3600),
            Cell("", row.folder, links=links[row.run]),
        ]
        for row in table.itertuples()
    ]
    columns = [
        "status",
        "protocol",
        "method",
        "labels",
        "seed",
        "network",
        "last (%)",
        "median of last 20 (%)",
        "ECE (%)",
    ]
    return Table("Runs", [*columns, "images/s", "hours", "files"], rows)

"""The tables of a comparison, as cells of text that the Markdown file and the page both draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from meanteacher.comparison.axes import LABEL, TITLES, Point, point_order, point_text
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.published import show_errors
from meanteacher.comparison.rows import labels_of, points_of
from meanteacher.comparison.settings import show
from meanteacher.comparison.statistics import Pair
from meanteacher.comparison.verdicts import interval, signed, spread
from meanteacher.config.formats import format_duration

BOLD = "bold: the smallest mean among the networks that the methods are judged by"


@dataclass(frozen=True)
class Cell:
    """One cell. value: the page's sort key, None (sorted last) where there is no value; links: text and address."""

    text: str
    value: float | str | None = None
    bold: bool = False
    links: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table under a heading. note: a sentence shown below it."""

    heading: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""


def word_cell(text) -> Cell:
    return Cell("–") if pd.isna(text) or text == "" else Cell(str(text), str(text))


def number_cell(value, pattern: str, scale: float = 1) -> Cell:
    return Cell("–") if value is None or pd.isna(value) else Cell(format(scale * value, pattern), float(value))


def duration_cell(seconds) -> Cell:
    return Cell("–") if seconds is None or pd.isna(seconds) else Cell(format_duration(seconds), float(seconds))


def point_cell(point: Point | None) -> Cell:
    """A label count or another point; `all` sorts after every number."""
    return Cell("–") if point is None else Cell(show(point), min(point_order(point), 1e300))


def heading_of(text: str, protocol: Protocol, protocols: list[Protocol]) -> str:
    """A heading that names the protocol where there are several."""
    return f"{text}, {protocol.letter}" if len(protocols) > 1 else text


def error_table(heading: str, score: str, protocol: Protocol, summary: pd.DataFrame) -> Table | None:
    """Error by method, network and point; None where nothing was measured.

    summary: of one protocol; score: `error_last` or `error_median_last_20`.
    """
    measured = summary[summary[score].notna()]
    if measured.empty:
        return None
    points = points_of(measured)
    smallest = measured[measured["deployed"]].groupby("point")[score].min()
    rows = []
    for (variant, network), group in measured.groupby(["variant", "network"], sort=False):
        by_point = {row["point"]: row for row in group.to_dict("records")}
        cells = [error_cell(by_point.get(point), score, smallest, protocol.decimals) for point in points]
        counts = [by_point[point]["n"] if point in by_point else 0 for point in points]
        text = str(max(counts)) if len({*counts} - {0}) == 1 else " / ".join(map(str, counts))
        rows.append([word_cell(variant), word_cell(network), *cells, Cell(text, max(counts))])
    note = f"Mean ± standard deviation (n − 1) over n seeds; {BOLD}."
    headings = [point_text(protocol.axis, point) for point in points]
    return Table(heading, ["method", "network", *headings, "n"], rows, note)


def error_cell(row: dict | None, score: str, smallest: Mapping, decimals: int) -> Cell:
    """Mean and deviation of a row of the summary. smallest: the smallest mean of a deployed network, by point."""
    if row is None:
        return Cell("–")
    bold = row["deployed"] and row[score] == smallest[row["point"]]
    return Cell(spread(row[score], row[f"{score}_std"], decimals), row[score], bold)


def pair_table(heading: str, pairs: list[Pair], protocol: Protocol) -> Table:
    rows, decimals = [], protocol.decimals
    for pair in pairs:
        paired = pair.difference is not None
        rows.append(
            [
                point_cell(pair.point),
                word_cell(pair.variant),
                word_cell(f"{pair.against} ({pair.about})"),
                Cell(signed(100 * pair.difference, decimals), pair.difference) if paired else Cell("–"),
                Cell(interval(pair, decimals), pair.low) if pair.low is not None else Cell("–"),
                Cell(str(pair.n), pair.n),
                word_cell(pair.verdict),
            ]
        )
    note = (
        "Error of the other minus error of the method, in percentage points (positive: the method is better), over "
        "pairs of runs that share seed and labeled images. The 95 % intervals are Student's t intervals, not corrected "
        "for multiple comparisons."
    )
    columns = [TITLES[protocol.axis], "method", "against", "points", "95 % interval", "n", "verdict"]
    return Table(heading, columns, rows, note)


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
        cells.append([word_cell(row["variant"]), Cell(str(label), label), needed, ratio])
    note = (
        "The number of labels at which supervised reaches the method's mean error, by linear interpolation over the "
        "logarithm of the label count; > and < mark numbers outside of the label counts that were run."
    )
    return Table(heading, ["method", "labels", "labels supervised needs", "ratio"], cells, note)


def cost_table(heading: str, costs: pd.DataFrame, axis: str) -> Table:
    rows = [
        [
            word_cell(row.variant),
            word_cell(row.network),
            point_cell(row.point),
            Cell(spread(row.ece, row.ece_std, 1), None if pd.isna(row.ece) else row.ece),
            number_cell(row.images_per_second, ".0f"),
            duration_cell(row.training_seconds),
            duration_cell(row.training_seconds_in_all),
            number_cell(row.peak_memory_bytes, ".2f", 2**-30),
            Cell(str(row.n), row.n),
        ]
        for row in costs.itertuples()
    ]
    columns = ["method", "network", TITLES[axis], "ECE (%)", "images/s", "time per run", "time in all"]
    note = (
        "ECE: expected calibration error of the deployed network, mean ± standard deviation. Images/s: median over "
        "runs, without evaluation. Time: training time, mean and sum over runs. Peak memory: maximum over runs."
    )
    return Table(heading, [*columns, "peak memory (GiB)", "n"], rows, note)


def published_table(published: pd.DataFrame) -> Table:
    """A row per published series, a column per label count; percent, as printed in the source."""
    labels = labels_of(published)
    about = ["dataset", "method", "network", "selection", "source", "protocol"]
    rows = []
    for (dataset, method, network, selection, source, protocol), series in published.groupby(about, sort=False):
        cells = [word_cell(method), word_cell(dataset), word_cell(network)]
        for label in labels:
            at_label = series[series["label"] == label]
            shown = zip(show_errors(at_label), at_label["error"], strict=True)
            cells += [Cell(text, error) for text, error in shown] or [Cell("–")]
        rows.append([*cells, word_cell(selection), word_cell(f"{source}: {protocol}")])
    columns = [
        "method",
        "dataset",
        "network",
        *(point_text(LABEL, label) for label in labels),
        "evaluation",
        "source and protocol",
    ]
    note = (
        "Reported by others under their own protocols: for orientation, not part of any verdict. ±: the deviation over "
        "runs that the source prints, where it was read."
    )
    return Table("Published errors (%)", columns, rows, note)


def problem_table(problems: list[dict]) -> Table:
    columns = ["status", "method", "label", "seed", "reason", "folder"]
    rows = [[word_cell(problem[name]) for name in columns] for problem in problems]
    return Table("Problems", columns, rows, "These runs are in no mean, difference or verdict.")


def runs_table(table: pd.DataFrame, links: list[list[tuple[str, str]]]) -> Table:
    """Every run and network. links: per run, text and address of the files that can be opened."""
    rows = [
        [
            word_cell(row.status if row.counted or row.status != "finished" else "finished, not counted"),
            word_cell(row.protocol),
            word_cell(row.variant or row.method),
            point_cell(row.label),
            number_cell(row.seed, ".0f"),
            word_cell(row.network),
            number_cell(row.error_last, ".2f", 100),
            number_cell(row.error_median_last_20, ".2f", 100),
            number_cell(row.ece, ".1f", 100),
            number_cell(row.images_per_second, ".0f"),
            duration_cell(row.training_seconds),
            Cell("", row.folder, links=links[row.run]),
        ]
        for row in table.itertuples()
    ]
    scores = ["last (%)", "median of last 20 (%)", "ECE (%)"]
    columns = ["status", "protocol", "method", "labels", "seed", "network", *scores, "images/s", "time", "files"]
    return Table("Runs", columns, rows)

"""The tables of recall by class, balanced accuracy and AUROC of unknown classes, for runs with a realistic option."""

import pandas as pd

from meanteacher.comparison.axes import TITLES
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.results import Run
from meanteacher.comparison.statistics import Statistics
from meanteacher.comparison.tables import Cell, Table, heading_of, number_cell, point_cell, word_cell
from meanteacher.comparison.verdicts import spread

MOST_CLASSES = 12
"""The recall of each class is shown for at most this number of classes."""


def class_tables(protocol: Protocol, protocols: list[Protocol], numbers: Statistics, runs: list[Run]) -> list[Table]:
    """A table of scores over all classes and one of the recall by class; empty where no run has these scores."""
    rows = numbers.judged_at_points(protocol)
    rows = rows[rows["balanced_accuracy"].notna()]
    if rows.empty:
        return []
    recalls = [runs[row.run].result.models[row.network].recall for row in rows.itertuples()]
    rows = rows.assign(recall=recalls, lowest=[lowest_recall(recall) for recall in recalls])
    summary = numbers.summary_of(protocol)
    groups = []
    for about in summary[summary["deployed"]].itertuples():
        group = rows[(rows["variant"] == about.variant) & (rows["point"] == about.point)]
        groups += [group] if len(group) else []
    headings = [heading_of(text, protocol, protocols) for text in ("Balanced accuracy", "Recall by class (%)")]
    return [score_table(headings[0], groups, protocol), recall_table(headings[1], groups, protocol)]


def lowest_recall(recall: dict[str, float | None]) -> float:
    return min((value for value in recall.values() if value is not None), default=float("nan"))


def score_table(heading: str, groups: list[pd.DataFrame], protocol: Protocol) -> Table:
    """Balanced accuracy, lowest recall and, where it was measured, AUROC. groups: the runs of a variant at a point."""
    columns = {"balanced_accuracy": "balanced accuracy (%)", "lowest": "lowest recall (%)"}
    note = "Balanced accuracy: mean recall of the classes. Mean ± standard deviation over n seeds, deployed network."
    if any(group["auroc_unknown"].notna().any() for group in groups):
        columns["auroc_unknown"] = "AUROC of unknown (%)"
        note += (
            " AUROC of unknown: how well the largest predicted probability separates test images of classes with "
            "labels from those of other classes; 50 is chance."
        )
    rows = []
    for group in groups:
        cells = [Cell(spread(group[c].mean(), group[c].std(), 1), float(group[c].mean())) for c in columns]
        about = [word_cell(group["variant"].iloc[0]), word_cell(group["network"].iloc[0])]
        rows.append([*about, point_cell(group["point"].tolist()[0]), *cells, Cell(str(len(group)), len(group))])
    return Table(heading, ["method", "network", TITLES[protocol.axis], *columns.values(), "n"], rows, note)


def recall_table(heading: str, groups: list[pd.DataFrame], protocol: Protocol) -> Table:
    """The mean recall of each class; without rows where there are many classes."""
    classes = sorted({name for group in groups for recall in group["recall"] for name in recall})
    rows = []
    for group in groups if len(classes) <= MOST_CLASSES else []:
        means = [pd.Series([recall.get(name) for recall in group["recall"]], dtype=float).mean() for name in classes]
        about = [word_cell(group["variant"].iloc[0]), point_cell(group["point"].tolist()[0])]
        rows.append([*about, *(number_cell(mean, ".1f", 100) for mean in means)])
    note = "Mean over the seeds in which the class has labels; deployed network."
    return Table(heading, ["method", TITLES[protocol.axis], *classes], rows, note)

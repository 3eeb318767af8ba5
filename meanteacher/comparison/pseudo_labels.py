"""The table of pseudo-label quality by method."""

from meanteacher.comparison.axes import TITLES, point_order
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.rows import PSEUDO_LABELS
from meanteacher.comparison.statistics import Statistics
from meanteacher.comparison.tables import Cell, Table, point_cell, word_cell
from meanteacher.comparison.verdicts import spread

NOTE = (
    "Of the pseudo-labels over the last log interval of each run, by the labels that are hidden from the method: the "
    "share of correct ones by weight, the share of images with a weight above 0, the mean weight, and the overlap of "
    "their classes with the hidden ones. Mean ± standard deviation (n − 1) over n runs."
)


def pseudo_label_table(heading: str, numbers: Statistics, protocol: Protocol) -> Table:
    """Precision, coverage and class balance by method and point of the axis; no rows where none was measured."""
    names = {f"pseudo_label_{name}": name.replace("_", " ") for name in PSEUDO_LABELS}
    judged = numbers.judged_at_points(protocol)
    measured = judged[judged["pseudo_label_coverage"].notna()]
    groups = measured.groupby(["variant", "point"], sort=False)
    rank = {variant: number for number, variant in enumerate(protocol.variants)}
    rows = []
    for (variant, point), runs in sorted(groups, key=lambda group: (rank[group[0][0]], point_order(group[0][1]))):
        means = {name: (runs[name].mean(), runs[name].std()) for name in names}
        cells = [Cell(spread(mean, std, 1), None if mean != mean else mean) for mean, std in means.values()]
        rows.append([word_cell(variant), point_cell(point), *cells, Cell(str(len(runs)), len(runs))])
    return Table(heading, ["method", TITLES[protocol.axis], *names.values(), "n"], rows, NOTE)

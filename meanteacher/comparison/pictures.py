"""The picture of a comparison: a row of panels per protocol, with a panel per score.

Shows error over labels or over a realistic option, one dot per seed where there is one point, or error over a setting
that was varied.
"""

from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING

import pandas as pd

from meanteacher.comparison.panels import draw_points, draw_seeds, draw_setting, escape, varied_setting
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.published import choose_series
from meanteacher.comparison.rows import points_of
from meanteacher.comparison.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

SCORES = {"error_last": "error at the last step", "error_median_last_20": "median error of the last 20 evaluations"}

MAX_PROTOCOLS = 12
"""The number of protocols that are drawn; the tables hold all of them."""


def draw(protocols: list[Protocol], numbers: Statistics, published: pd.DataFrame, title: str) -> "Figure":
    """The figure of a comparison. published: rows of published.csv for its data sets and methods."""
    from matplotlib.figure import Figure

    drawn = [protocol for protocol in protocols if not numbers.summary_of(protocol).empty][:MAX_PROTOCOLS]
    heights = [row_height(protocol, numbers.summary_of(protocol), published) for protocol in drawn] or [1.5]
    figure = Figure((12.5, sum(heights) + 0.5), layout="constrained")
    figure.suptitle(escape(title), fontsize=13)
    if not drawn:
        figure.text(0.5, 0.4, "No run has finished.", ha="center", fontsize=12)
        return figure
    rows = figure.subfigures(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, protocol in zip(rows, drawn, strict=True):
        if len(protocols) > 1:
            name = f"{protocol.letter}: {protocol.differs}"
            row.suptitle("\n".join(wrap(escape(name), 130, max_lines=3, placeholder=" …")), fontsize=10)
        draw_protocol(row, protocol, numbers, published)
    return figure


def render(figure: "Figure", kind: str) -> bytes:
    """The content of the figure's file. kind: `png` or `svg`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    content = BytesIO()
    with rc_context({"svg.hashsalt": "comparison"}):
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def row_height(protocol: Protocol, summary: pd.DataFrame, published: pd.DataFrame) -> float:
    """Height in inches of a protocol's panels and their legend."""
    points, variants = points_of(summary), summary["variant"].nunique()
    if len(points) == 1 and not varied_setting(protocol):
        return 1.7 + 0.5 * variants
    return max(4.4, 1.5 + 0.2 * variants + 0.36 * len(choose_series(published, protocol, points)))


def draw_protocol(row: "SubFigure", protocol: Protocol, numbers: Statistics, published: pd.DataFrame) -> None:
    """Draw one panel per score that was measured, and a legend on the right of all panels."""
    summary = numbers.summary_of(protocol)
    table = numbers.table
    runs = table[table["counted"] & (table["protocol"] == protocol.letter)]
    scores = [score for score in SCORES if summary[score].notna().any()]
    one_point = len(points_of(summary)) == 1
    setting = varied_setting(protocol) if one_point else None
    panels = row.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    for axes, score in zip(panels, scores, strict=True):
        if setting:
            draw_setting(axes, protocol, summary, score, setting)
        elif one_point:
            draw_seeds(axes, protocol, runs, summary, score, published)
        else:
            draw_points(axes, protocol, summary, score, published)
        axes.set_title(SCORES[score], fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    if setting or not one_point:
        panels[0].set_ylabel("error (%)")
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        title = None if one_point else "solid: the network that a method is judged by; dotted: its other network"
        legend = row.legend(handles.values(), handles, loc="outside right center", fontsize=8.5, frameon=False)
        legend.set_title(title, {"size": 8.5})

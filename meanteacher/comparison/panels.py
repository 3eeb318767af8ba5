"""The three kinds of panel in a comparison's picture: error over labels or other points, over seeds, over a setting."""

import textwrap
from itertools import cycle
from typing import TYPE_CHECKING

import pandas as pd

from meanteacher.comparison.axes import DESCRIPTIONS, Point
from meanteacher.comparison.protocols import Protocol, Variant
from meanteacher.comparison.published import choose_series
from meanteacher.comparison.rows import points_of
from meanteacher.comparison.settings import show
from meanteacher.config import colors
from meanteacher.runs.result import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vP"

AXIS_CHARACTERS = 38
"""Characters in a line below a panel: longer lines would run into the next panel."""


def draw_points(axes: "Axes", protocol: Protocol, summary: pd.DataFrame, score: str, published: pd.DataFrame) -> None:
    """Error over the axis of the protocol, such as the number of labels: means with a band of one standard deviation.

    Networks that are not deployed are dotted. Published errors are dashed, with bars of ± their deviation where known.
    """
    points = points_of(summary)
    positions = point_positions(points, protocol)
    styles = styles_of(protocol)
    for (variant, network, deployed), rows in summary.groupby(["variant", "network", "deployed"], sort=False):
        color, marker = styles[variant]
        x = [positions[point] for point in rows["point"]]
        if deployed:
            draw_line(axes, x, rows, score, color, marker, f"{variant} ({network})")
        else:
            axes.plot(x, 100 * rows[score], ":", color=color, linewidth=1.2)
    for method, series in choose_series(published, protocol, points).items():
        color, _ = styles[first_variant(protocol, method)]
        x, label = [positions[label] for label in series["label"]], escape(published_label(method, series))
        axes.plot(x, series["error"], "--", color=color, marker="x", markersize=5, linewidth=1, alpha=0.8, label=label)
        axes.errorbar(x, series["error"], series["std"], fmt="none", ecolor=color, elinewidth=1, capsize=2, alpha=0.8)
    axes.set_xscale("log" if min(positions.values()) > 0 and protocol.axis != "mismatch" else "linear")
    axes.set_xticks(list(positions.values()), [show(point) for point in positions])
    axes.minorticks_off()
    axes.set(xlabel=textwrap.fill(DESCRIPTIONS[protocol.axis], AXIS_CHARACTERS))
    start_at_zero(axes)


def draw_line(
    axes: "Axes", x: list[float], rows: pd.DataFrame, score: str, color: str, marker: str, label: str
) -> None:
    """A solid line of means, with a band of ± one standard deviation where there is one."""
    mean, deviation = 100 * rows[score], 100 * rows[f"{score}_std"].fillna(0)
    axes.plot(x, mean, color=color, marker=marker, markersize=5, linewidth=1.8, label=escape(label))
    axes.fill_between(x, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)


def draw_seeds(
    axes: "Axes", protocol: Protocol, runs: pd.DataFrame, summary: pd.DataFrame, score: str, published: pd.DataFrame
) -> None:
    """One point: a row per variant with a dot per seed, and mean ± standard deviation of each network."""
    variants = [name for name in protocol.variants if name in set(summary["variant"])]
    styles, reference = styles_of(protocol), choose_series(published, protocol, points_of(summary))
    for position, name in enumerate(variants):
        for row in summary[summary["variant"] == name].to_dict("records"):
            errors = 100 * runs.loc[(runs["variant"] == name) & (runs["network"] == row["network"]), score]
            draw_network(axes, position + (0 if row["deployed"] else 0.25), errors, row, score, *styles[name])
        method = protocol.variants[name].method
        if method in reference and name == first_variant(protocol, method):
            draw_published_error(axes, position, method, reference[method], styles[name][0])
    axes.set_yticks(range(len(variants)), [escape(name) for name in variants])
    axes.set_ylim(len(variants) - 0.4, -0.6)
    label = "error (%); filled: the network that a method is judged by; open: its other network"
    axes.set_xlabel(textwrap.fill(label, AXIS_CHARACTERS), fontsize=8.5)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.04)


def draw_published_error(axes: "Axes", y: float, method: str, series: pd.DataFrame, color: str) -> None:
    """The first error of a published series: a dashed line at height y, with a band of ± its deviation where known."""
    error, deviation, height = series["error"].iloc[0], series["std"].iloc[0], [y - 0.4, y + 0.4]
    axes.plot([error] * 2, height, "--", color=color, label=escape(published_label(method, series)))
    if not pd.isna(deviation):
        axes.fill_betweenx(height, error - deviation, error + deviation, color=color, alpha=0.15, linewidth=0)


def draw_network(axes: "Axes", y: float, errors: pd.Series, row: dict, score: str, color: str, marker: str) -> None:
    """A network's errors in percent as dots at height y, with mean ± deviation; filled where it is the deployed one.

    row: the network's row of the summary.
    """
    face = color if row["deployed"] else "none"
    axes.plot(errors, [y] * len(errors), "o", color=color, markersize=4, alpha=0.5, markerfacecolor=face)
    deviation = 0 if pd.isna(row[f"{score}_std"]) else 100 * row[f"{score}_std"]
    axes.errorbar(
        100 * row[score],
        y,
        xerr=deviation or None,
        fmt=marker,
        color=color,
        markerfacecolor=face,
        markersize=8 if row["deployed"] else 6,
        capsize=3,
        linewidth=1.5 if row["deployed"] else 0.8,
    )


def draw_setting(axes: "Axes", protocol: Protocol, summary: pd.DataFrame, score: str, setting: str) -> None:
    """One point: error of the deployed network over a setting, with a line per value of the other settings.

    Methods without that setting are drawn as a horizontal line.
    """
    deployed = summary[summary["deployed"]].set_index("variant")
    lines: dict[str, list[Variant]] = {}
    for variant in protocol.variants.values():
        if variant.name in deployed.index:
            others = [f"{name}={show(value)}" for name, value in variant.values.items() if name != setting]
            lines.setdefault(" ".join([variant.method, *others]), []).append(variant)
    palette, markers = cycle(colors.METHODS), cycle(MARKERS)
    for name, members in lines.items():
        rows = deployed.loc[[variant.name for variant in members]]
        if setting in members[0].values:
            x = [variant.values[setting] for variant in members]
            draw_line(axes, x, rows, score, next(palette), next(markers), name)
        else:
            color = colors.BASELINE if members[0].method == BASELINE else next(palette)
            axes.axhline(100 * rows[score].iloc[0], color=color, linewidth=1.5, linestyle="-.", label=escape(name))
    values = {v.values[setting] for members in lines.values() for v in members if setting in v.values}
    scale_setting(axes, sorted(values))
    axes.set(xlabel=escape(setting))
    start_at_zero(axes)


def scale_setting(axes: "Axes", values: list[float]) -> None:
    """A logarithmic axis where all values are positive; linear around 0 where the smallest value is 0."""
    positive = [value for value in values if value > 0]
    if values[0] > 0:
        axes.set_xscale("log")
    elif positive and values[0] == 0:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def varied_setting(protocol: Protocol) -> str | None:
    """The numeric setting with the most values within a method, at least three; None where there is none."""
    values: dict[tuple[str, str], set] = {}
    for variant in protocol.variants.values():
        for name, value in variant.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault((variant.method, name), set()).add(value)
    most = max(values, key=lambda pair: len(values[pair]), default=None)
    return most[1] if most and len(values[most]) >= 3 else None


def point_positions(points: list[Point], protocol: Protocol) -> dict[Point, float]:
    """The position of each point on the axis; `all` is at the number of training images, right of the others."""
    positions = {point: float(point) for point in points if point != "all"}
    largest = max(positions.values(), default=1.0)
    everything = max(float(protocol.fields.get("data.train", 0)), 2 * largest)
    return positions | ({"all": everything} if "all" in points else {})


def styles_of(protocol: Protocol) -> dict[str, tuple[str, str]]:
    """Color and marker of each variant. The first variant of the baseline is black."""
    variants = list(protocol.variants.values())
    styles = zip(cycle(colors.METHODS), (marker for marker in cycle(MARKERS) for _ in colors.METHODS))
    first = next((variant.name for variant in variants if variant.method == BASELINE), None)
    return {v.name: (colors.BASELINE, "o") if v.name == first else next(styles) for v in variants}


def first_variant(protocol: Protocol, method: str) -> str:
    return next(name for name, variant in protocol.variants.items() if variant.method == method)


def published_label(method: str, series: pd.DataFrame) -> str:
    row = series.iloc[0]
    evaluation = "evaluation unstated" if row["selection"] == "unstated" else row["selection"]
    return f"{method}, published: {row['source'].partition(' (')[0]},\n{row['network']}, {evaluation}"


def escape(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def start_at_zero(axes: "Axes") -> None:
    """Let the errors start at 0 and show all of this panel and of those before it that share its limits."""
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * axes.dataLim.y1))

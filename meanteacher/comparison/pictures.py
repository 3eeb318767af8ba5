"""The picture of a comparison: error over labels, a dot per seed where there is one label count, or error over a setting."""

from io import BytesIO
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING

import pandas as pd

from meanteacher.comparison.protocols import BASELINE, Protocol, Variant, show
from meanteacher.comparison.published import for_picture
from meanteacher.comparison.statistics import labels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's colours, distinct to colour-blind readers; the baseline is black.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
MARKERS = "osD^vP"
SCORES = {"error_last": "error at the last step", "error_median_last_20": "median error of the last 20 evaluations"}
MOST = 12
"""Up to so many protocols are drawn; the tables have all."""


def draw(
    protocols: list[Protocol], table: pd.DataFrame, found: pd.DataFrame, published: pd.DataFrame, title: str
) -> "Figure":
    """A row of panels per protocol. found: the summary."""
    from matplotlib.figure import Figure

    drawn = [(p, found[found["protocol"] == p.letter]) for p in protocols]
    drawn = [(protocol, here) for protocol, here in drawn if not here.empty][:MOST]
    heights = [height(protocol, here, published) for protocol, here in drawn] or [1.5]
    figure = Figure((12.5, sum(heights) + 0.5), layout="constrained")
    figure.suptitle(plain(title), fontsize=13)
    if not drawn:
        figure.text(0.5, 0.4, "No run has finished.", ha="center", fontsize=12)
    else:
        rows = figure.subfigures(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
        for row, (protocol, here) in zip(rows, drawn, strict=True):
            if len(protocols) > 1:
                name = f"{protocol.letter}: {protocol.differs}"
                row.suptitle("\n".join(wrap(plain(name), 130, max_lines=3, placeholder=" …")), fontsize=10)
            runs = table[table["counted"] & (table["protocol"] == protocol.letter)]
            draw_protocol(row, protocol, runs, here, published)
    return figure


def saved(figure: "Figure", kind: str) -> bytes:
    """The figure as a file's content. kind: png or svg."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    content = BytesIO()
    with rc_context({"svg.hashsalt": "comparison"}):
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def height(protocol: Protocol, here: pd.DataFrame, published: pd.DataFrame) -> float:
    """Inches that a protocol's row of panels, and its legend, needs."""
    labels, variants = labels_of(here), here["variant"].nunique()
    if len(labels) == 1 and not swept_key(protocol):
        return 1.7 + 0.5 * variants
    return max(4.4, 1.5 + 0.2 * variants + 0.36 * len(for_picture(published, protocol, labels)))


def draw_protocol(
    row: "SubFigure", protocol: Protocol, runs: pd.DataFrame, here: pd.DataFrame, published: pd.DataFrame
) -> None:
    """One panel per score that was measured, and a legend at the right of all."""
    scores = [score for score in SCORES if here[score].notna().any()]
    single = len(labels_of(here)) == 1
    over = swept_key(protocol) if single else None
    panels = row.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    for axes, score in zip(panels, scores, strict=True):
        if over:
            draw_setting(axes, protocol, here, score, over)
        elif single:
            draw_seeds(axes, protocol, runs, here, score, published)
        else:
            draw_labels(axes, protocol, here, score, published)
        axes.set_title(SCORES[score], fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    if over or not single:
        panels[0].set_ylabel("error (%)")
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        key = None if single else "solid: the network judged by, dotted: the other"
        legend = row.legend(handles.values(), handles, loc="outside right center", fontsize=8.5, frameon=False)
        legend.set_title(key, {"size": 8.5})


def draw_labels(axes: "Axes", protocol: Protocol, here: pd.DataFrame, score: str, published: pd.DataFrame) -> None:
    """Error over the number of labels, logarithmic; mean with a band of a standard deviation, the student thin."""
    labels = labels_of(here)
    places = positions(labels, protocol)
    styles = styles_of(protocol)
    for (variant, network, deployed), its in here.groupby(["variant", "network", "deployed"], sort=False):
        colour, marker = styles[variant]
        x = [places[label] for label in its["label"]]
        if deployed:
            line(axes, x, its, score, colour, marker, f"{variant} ({network})")
        else:
            axes.plot(x, 100 * its[score], ":", color=colour, linewidth=1.2)
    for method, its in for_picture(published, protocol, labels).items():
        colour = styles[first_variant(protocol, method)][0]
        x, label = [places[label] for label in its["label"]], plain(published_label(method, its))
        axes.plot(x, its["error"], "--", color=colour, marker="x", markersize=5, linewidth=1, alpha=0.8, label=label)
    axes.set_xscale("log")
    axes.set_xticks(list(places.values()), [show(label) for label in places])
    axes.minorticks_off()
    axes.set(xlabel="labeled images")
    axes.set_ylim(bottom=0)


def line(axes: "Axes", x: list[float], its: pd.DataFrame, score: str, colour: str, marker: str, label: str) -> None:
    """Means, solid, with a band of ± a standard deviation where there are seeds enough."""
    mean, deviation = 100 * its[score], 100 * its[f"{score}_std"].fillna(0)
    axes.plot(x, mean, color=colour, marker=marker, markersize=5, linewidth=1.8, label=plain(label))
    axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)


def draw_seeds(
    axes: "Axes", protocol: Protocol, runs: pd.DataFrame, here: pd.DataFrame, score: str, published: pd.DataFrame
) -> None:
    """One label count: a row per variant with a dot per seed and mean ± standard deviation of its networks."""
    variants = [name for name in protocol.variants if name in set(here["variant"])]
    styles, reference = styles_of(protocol), for_picture(published, protocol, labels_of(here))
    for place, name in enumerate(variants):
        colour, marker = styles[name]
        for row in here[here["variant"] == name].to_dict("records"):
            dots = 100 * runs.loc[(runs["variant"] == name) & (runs["network"] == row["network"]), score]
            y = place + (0 if row["deployed"] else 0.25)
            face = colour if row["deployed"] else "none"
            axes.plot(dots, [y] * len(dots), "o", color=colour, markersize=4, alpha=0.5, markerfacecolor=face)
            deviation = 0 if pd.isna(row[f"{score}_std"]) else 100 * row[f"{score}_std"]
            size = 8 if row["deployed"] else 6
            axes.errorbar(
                100 * row[score],
                y,
                xerr=deviation or None,
                fmt=marker,
                color=colour,
                markerfacecolor=face,
                markersize=size,
                capsize=3,
                linewidth=1.5 if row["deployed"] else 0.8,
            )
        method = protocol.variants[name].method
        if method in reference and name == first_variant(protocol, method):
            error, label = reference[method]["error"].iloc[0], plain(published_label(method, reference[method]))
            axes.plot([error] * 2, [place - 0.4, place + 0.4], "--", color=colour, label=label)
    axes.set_yticks(range(len(variants)), [plain(name) for name in variants])
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set(xlabel="error (%); filled: the network judged by, open: the other")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.04)


def draw_setting(axes: "Axes", protocol: Protocol, here: pd.DataFrame, score: str, over: str) -> None:
    """One label count: error of the deployed network over a setting, a line per value of the others; methods without that
    setting are a line across."""
    deployed = here[here["deployed"]].set_index("variant")
    lines: dict[str, list[Variant]] = {}
    for variant in protocol.variants.values():
        if variant.name in deployed.index:
            rest = [f"{name}={show(value)}" for name, value in variant.values.items() if name != over]
            lines.setdefault(" ".join([variant.method, *rest]), []).append(variant)
    colours, markers = cycle(COLOURS), cycle(MARKERS)
    values = sorted({v.values[over] for members in lines.values() for v in members if over in v.values})
    for name, members in lines.items():
        its = deployed.loc[[variant.name for variant in members]]
        if over in members[0].values:
            x = [variant.values[over] for variant in members]
            line(axes, x, its, score, next(colours), next(markers), name)
        else:
            colour = "#000000" if members[0].method == BASELINE else next(colours)
            axes.axhline(100 * its[score].iloc[0], color=colour, linewidth=1.5, linestyle="-.", label=plain(name))
    positive = [value for value in values if value > 0]
    if values[0] > 0:
        axes.set_xscale("log")
    elif positive and values[0] == 0:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=plain(over))
    axes.set_ylim(bottom=0)


def swept_key(protocol: Protocol) -> str | None:
    """The numeric setting with the most values within a method, at least three; None where there is none."""
    values: dict[tuple[str, str], set] = {}
    for variant in protocol.variants.values():
        for name, value in variant.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault((variant.method, name), set()).add(value)
    most = max(values, key=lambda pair: len(values[pair]), default=None)
    return most[1] if most and len(values[most]) >= 3 else None


def positions(labels: list[int | str], protocol: Protocol) -> dict[int | str, float]:
    """Where each label count lies on the axis; `all` at the number of training images, right of the others."""
    places = {label: float(label) for label in labels if label != "all"}
    most = max(places.values(), default=1.0)
    return places | ({"all": max(float(protocol.fields.get("data.train", 0)), 2 * most)} if "all" in labels else {})


def styles_of(protocol: Protocol) -> dict[str, tuple[str, str]]:
    """Colour and marker per variant."""
    variants = list(protocol.variants.values())
    styles = zip(cycle(COLOURS), (marker for marker in cycle(MARKERS) for _ in COLOURS))
    first = next((variant.name for variant in variants if variant.method == BASELINE), None)
    return {v.name: ("#000000", "o") if v.name == first else next(styles) for v in variants}


def first_variant(protocol: Protocol, method: str) -> str:
    return next(name for name, variant in protocol.variants.items() if variant.method == method)


def published_label(method: str, its: pd.DataFrame) -> str:
    row = its.iloc[0]
    evaluation = "evaluation unstated" if row["selection"] == "unstated" else row["selection"]
    return f"{method}, published: {row['source'].partition(' (')[0]},\n{row['network']}, {evaluation}"


def plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")

"""The pictures of a run, each one PNG: learning curves, confusion matrix, sheets of images and of their views."""

import re
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct to colour-blind readers.
_MODELS = {"student": "#0072B2", "teacher": "#D55E00", "average": "#D55E00"}
_OTHERS = ["#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
_PARTS = {"test": "-", "validation": "--"}
_NUMBERED = 12
"""Up to so many classes a confusion matrix has its numbers written in."""

Series = dict[str, tuple[list[int], list[float]]]


def learning_curves(history: list[dict], path: Path, title: str) -> Path:
    """Errors, training losses and calibration errors over steps; what the history has nothing of is left out."""
    from matplotlib.ticker import MaxNLocator

    errors, ece = (_series(history, rf"({'|'.join(_PARTS)})/.+/{metric}", 100) for metric in ("error", "ece"))
    losses = _series(history, r"train/(?!.*weight).*(loss|supervised|consistency|cross_entropy).*", 1)
    panels = {
        "error (%)": (errors, _draw_models),
        "training loss": (losses, _draw_losses),
        "calibration error, ECE (%)": (ece, _draw_models),
    }
    shown = {label: panel for label, panel in panels.items() if panel[0]} or panels
    figure = _figure(5 * len(shown), 4.2, title)
    figure.get_layout_engine().set(wspace=0.06)
    for axes, (label, (series, draw)) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
    ):
        draw(axes, series)
        axes.set(xlabel="training step", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if series:
            axes.legend(fontsize=8, frameon=False)
    return _save(figure, path)


def confusion_matrix(predictions: np.ndarray, targets: np.ndarray, classes: list[str], path: Path, title: str) -> Path:
    """Row by row, what share of the images of a class is taken for which. predictions, targets: int [N]."""
    from matplotlib.colors import PowerNorm
    from sklearn.metrics import confusion_matrix as count

    n = len(classes)
    percent = 100 * count(targets, predictions, labels=range(n), normalize="true")
    side = 3.5 + 0.42 * n if n <= _NUMBERED else min(3.5 + 0.2 * n, 16)
    figure = _figure(side + 1, side, title)
    axes = figure.subplots()
    # The square root of the scale shows a class that loses one image in a hundred.
    image = axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100), interpolation="nearest")
    size = 9 if n <= _NUMBERED else max(5, 9 - n // 20)
    axes.set_xticks(range(n), classes, rotation=90, fontsize=size)
    axes.set_yticks(range(n), classes, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    ticks = [0, 1, 5, 10, 25, 50, 100]
    bar = figure.colorbar(
        image, ax=axes, label="share of the true class (%)", ticks=ticks, shrink=0.6, aspect=25, pad=0.02
    )
    bar.outline.set_visible(False)
    if n <= _NUMBERED:
        for row, column in np.argwhere(percent > 0):
            value = percent[row, column]
            text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if value > 30 else "black")
    return _save(figure, path)


def image_sheet(images: np.ndarray, captions: list[str], path: Path, title: str, columns: int) -> Path:
    """A grid of images with a caption under each. images: [N, C, H, W], C 1 or 3, uint8 or floats within 0 to 1."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = _figure(max(1.2 * columns, 4), 1.2 * rows * _aspect(images) + 0.3 * rows + 0.4, title)
    below = round(0.25 * images.shape[2]) + 1
    axes, corners = _mosaic(figure, images, rows, columns, (below, 1))
    for (top, left), caption in zip(corners, captions, strict=False):
        x, y = left + images.shape[3] / 2 - 0.5, top + images.shape[2]
        axes.text(x, y, caption, ha="center", va="top", fontsize=8)
    return _save(figure, path)


def view_sheet(originals: np.ndarray, views: dict[str, np.ndarray], path: Path, title: str) -> Path:
    """A row per image: the original and each view of it. originals: uint8 [N, C, H, W]; views: normalised floats."""
    sheets = {"original": _unit(originals)} | {name: _rescaled(view) for name, view in views.items()}
    rows, columns = max(1, len(originals)), len(sheets)
    figure = _figure(max(1.5 * columns, 4), 1.5 * rows * _aspect(originals) + 0.8, title)
    by_row = np.stack(list(sheets.values()), axis=1).reshape(-1, *originals.shape[1:])
    axes, corners = _mosaic(figure, by_row, rows, columns, (1, 1))
    for (_, left), name in zip(corners[:columns], sheets, strict=False):
        axes.text(left + originals.shape[3] / 2 - 0.5, -1.5, name, ha="center", va="bottom", fontsize=9)
    return _save(figure, path)


def _mosaic(
    figure: "Figure", images: np.ndarray, rows: int, columns: int, gap: tuple[int, int]
) -> tuple["Axes", list[tuple[int, int]]]:
    """Draw all images as one picture, which is much faster than an axis for each; returns their top left corners."""
    count, channels, height, width = images.shape
    step = height + gap[0], width + gap[1]
    canvas = np.ones((rows * step[0], columns * step[1], channels))
    corners = [(k // columns * step[0], k % columns * step[1]) for k in range(count)]
    for image, (top, left) in zip(_unit(images), corners, strict=True):
        canvas[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return axes, corners


def _unit(images: np.ndarray) -> np.ndarray:
    """uint8 as floats within 0 to 1; floats cut to that."""
    return images / 255 if images.dtype == np.uint8 else np.clip(images, 0, 1)


def _series(history: list[dict], pattern: str, scale: float) -> Series:
    """Steps and finite values of each metric that matches, in order of appearance."""
    found: Series = {}
    for record in history:
        for name, value in record.items():
            if re.fullmatch(pattern, name) and value is not None and np.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(scale * value)
    return found


def _draw_models(axes: "Axes", series: Series) -> None:
    """A line per network and part of the data, with its last value in the legend."""
    spare, colours = cycle(_OTHERS), dict(_MODELS)
    for name, (steps, values) in series.items():
        part, model = name.split("/")[0], name.split("/", 1)[1].rsplit("/", 1)[0]
        if model not in colours:
            colours[model] = next(spare)
        label = f"{model}, {part} (last: {values[-1]:.1f} %)"
        axes.plot(steps, values, _PARTS[part], color=colours[model], marker=_marker(steps), markersize=3, label=label)
    axes.set_ylim(0, 1.08 * max((max(values) for _, values in series.values()), default=0) or 1)


def _draw_losses(axes: "Axes", series: Series) -> None:
    """A line per loss on a logarithmic scale; what is zero, as a consistency of weight 0, has no place on it."""
    for (name, (steps, values)), colour in zip(series.items(), cycle(_OTHERS), strict=False):
        above = [(step, value) for step, value in zip(steps, values, strict=True) if value > 0]
        label = name.removeprefix("train/").replace("_", " ")
        x, y = zip(*above, strict=True) if above else ((), ())
        axes.plot(x, y, color=colour, linewidth=1.2, marker=_marker(above), markersize=3, label=label)
    axes.set_yscale("log")


def _marker(points: list) -> str | None:
    """Few points are marked; one alone would not be seen otherwise."""
    return "o" if len(points) <= 20 else None


def _rescaled(view: np.ndarray) -> np.ndarray:
    """Normalised floats brought to 0 to 1 by their own 1st and 99th percentiles."""
    low, high = np.percentile(view, [1, 99]) if view.size else (0, 1)
    return (view - low) / max(high - low, 1e-8)


def _aspect(images: np.ndarray) -> float:
    return images.shape[2] / images.shape[3]


def _figure(width: float, height: float, title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def _save(figure: "Figure", path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, format="png")
    return path

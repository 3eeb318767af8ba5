"""The pictures of a run, one PNG file each: learning curves, confusion matrix, sheets of images and of their views."""

import re
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meanteacher.config import colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_COLORS = {"student": colors.STUDENT, "teacher": colors.TEACHER, "average": colors.AVERAGE}
OTHER_COLORS = (colors.BLACK, colors.GREEN, colors.PURPLE, colors.SKY_BLUE, colors.ORANGE)
PART_STYLES = {"test": "-", "validation": "--"}

MAX_NUMBERED_CLASSES = 12
"""The largest number of classes for which the numbers are written into a confusion matrix."""

Series = dict[str, tuple[list[int], list[float]]]
"""Steps and values by the name of a metric."""


def learning_curves(history: list[dict], path: Path, title: str) -> Path:
    """Errors, training losses, calibration errors and scores of pseudo-labels over steps, in a row of panels."""
    figure = draw_learning_curves(history, columns=4)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return save(figure, path)


def draw_learning_curves(history: list[dict], columns: int) -> "Figure":
    """The figure of `learning_curves` with at most `columns` panels in a row. Panels without data are left out."""
    errors, ece = (
        select_series(history, rf"({'|'.join(PART_STYLES)})/.+/{metric}", 100) for metric in ("error", "ece")
    )
    losses = select_series(history, r"train/(?!.*weight).*(loss|supervised|consistency|cross_entropy).*", 1)
    kinds = {
        "error (%)": (errors, draw_models),
        "training loss": (losses, draw_losses),
        "calibration error, ECE (%)": (ece, draw_models),
        "pseudo-labels (%)": (select_series(history, r"train/pseudo_label_.+", 100), draw_pseudo_labels),
    }
    shown = {label: panel for label, panel in kinds.items() if panel[0]} or kinds
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(5 * columns, 4.2 * rows)
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    last_step = max((record["step"] for record in history), default=1)
    ticks = step_ticks(last_step)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes, (label, (series, draw)) in zip(panels, shown.items(), strict=False):
        draw(axes, series)
        axes.set(xlabel="training step", ylabel=label)
        axes.set_xlim(0, 1.02 * last_step)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def step_ticks(last: int) -> list[int]:
    """About five round steps from 0, and the last step."""
    from matplotlib.ticker import MaxNLocator

    ticks = [int(tick) for tick in MaxNLocator(5, integer=True).tick_values(0, last)]
    spacing = ticks[1] - ticks[0]
    return [tick for tick in ticks if tick <= last - 0.6 * spacing] + [last]


def confusion_matrix(predictions: np.ndarray, targets: np.ndarray, classes: list[str], path: Path, title: str) -> Path:
    """The share of each true class that is predicted as each class, in percent. predictions, targets: int `[N]`."""
    from matplotlib.colors import PowerNorm
    from sklearn.metrics import ConfusionMatrixDisplay
    from sklearn.metrics import confusion_matrix as count_confusions

    n = len(classes)
    percent = 100 * count_confusions(targets, predictions, labels=range(n), normalize="true")
    numbered = n <= MAX_NUMBERED_CLASSES
    side = 3.5 + 0.42 * n if numbered else min(3.5 + 0.2 * n, 16)
    figure = new_figure(side + 1, side)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    # The square root of the scale makes it visible that a class loses one image in a hundred.
    style = {"norm": PowerNorm(0.5, vmin=0, vmax=100)}
    display = ConfusionMatrixDisplay(percent, display_labels=classes)
    display.plot(include_values=numbered, cmap="Blues", xticks_rotation=90, ax=axes, colorbar=False, im_kw=style)
    axes.tick_params(labelsize=9 if numbered else max(5, 9 - n // 20))
    axes.set(xlabel="predicted class", ylabel="true class")
    ticks = [0, 1, 5, 10, 25, 50, 100]
    label = "share of the true class (%)"
    bar = figure.colorbar(display.im_, ax=axes, label=label, ticks=ticks, shrink=0.6, aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    if numbered:
        for text, value in zip(display.text_.flat, percent.flat, strict=True):
            format_share(text, value)
    return save(figure, path)


def format_share(text, value: float) -> None:
    """Write a share into its cell of the confusion matrix, with at most one decimal. Empty cells stay empty."""
    if not value > 0:
        text.remove()
        return
    text.set(text=f"{value:.0f}" if value >= 9.95 else f"{value:.1f}", fontsize=8)
    text.set_color("white" if value > 30 else "black")


def image_sheet(images: np.ndarray, captions: list[str], path: Path, title: str, columns: int) -> Path:
    """A grid of images with a caption below each. images: `[N, C, H, W]`, C 1 or 3, uint8 or floats in [0, 1]."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(max(1.2 * columns, 4), 1.2 * rows * aspect_ratio(images) + 0.3 * rows + 0.4)
    figure.suptitle(title, fontsize=11)
    caption_height = round(0.25 * images.shape[2]) + 1
    axes, corners = draw_grid(figure, images, rows, columns, (caption_height, 1))
    for (top, left), caption in zip(corners, captions, strict=False):
        x, y = left + images.shape[3] / 2 - 0.5, top + images.shape[2]
        axes.text(x, y, caption, ha="center", va="top", fontsize=8)
    return save(figure, path)


def view_sheet(originals: np.ndarray, views: dict[str, np.ndarray], path: Path, title: str) -> Path:
    """A row per image with the original and its views.

    originals: uint8 `[N, C, H, W]`; views: normalized floats of the same shape, by name.
    """
    sheets = {"original": to_unit_range(originals)} | {name: rescale(view) for name, view in views.items()}
    rows, columns = max(1, len(originals)), len(sheets)
    figure = new_figure(max(1.5 * columns, 4), 1.5 * rows * aspect_ratio(originals) + 0.8)
    figure.suptitle(title, fontsize=11)
    by_row = np.stack(list(sheets.values()), axis=1).reshape(-1, *originals.shape[1:])
    axes, corners = draw_grid(figure, by_row, rows, columns, (1, 1))
    for (_, left), name in zip(corners[:columns], sheets, strict=False):
        axes.text(left + originals.shape[3] / 2 - 0.5, -1.5, name, ha="center", va="bottom", fontsize=9)
    return save(figure, path)


def draw_grid(
    figure: "Figure", images: np.ndarray, rows: int, columns: int, gap: tuple[int, int]
) -> tuple["Axes", list[tuple[int, int]]]:
    """Draw images `[N, C, H, W]` as one picture, with a gap in pixels below and right of each.

    Returns the axes and the top left corner of each image. `torchvision.utils.make_grid` does the same, but importing
    torchvision would add 3 s to a run that does not use it otherwise.
    """
    count, channels, height, width = images.shape
    cell = height + gap[0], width + gap[1]
    canvas = np.ones((rows * cell[0], columns * cell[1], channels))
    corners = [(k // columns * cell[0], k % columns * cell[1]) for k in range(count)]
    for image, (top, left) in zip(to_unit_range(images), corners, strict=True):
        canvas[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return axes, corners


def to_unit_range(images: np.ndarray) -> np.ndarray:
    """uint8 scaled to floats in [0, 1]; floats clipped to [0, 1]."""
    return images / 255 if images.dtype == np.uint8 else np.clip(images, 0, 1)


def rescale(view: np.ndarray) -> np.ndarray:
    """Normalized floats with their 1st and 99th percentiles moved to 0 and 1."""
    low, high = np.percentile(view, [1, 99]) if view.size else (0, 1)
    return (view - low) / max(high - low, 1e-8)


def select_series(history: list[dict], pattern: str, scale: float) -> Series:
    """Steps and scaled finite values of each metric whose name matches, in order of appearance."""
    series: Series = {}
    for record in history:
        for name, value in record.items():
            if re.fullmatch(pattern, name) and value is not None and np.isfinite(value):
                steps, values = series.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(scale * value)
    return series


def draw_models(axes: "Axes", series: Series) -> None:
    """A line per network and part of the data, with its last value in the legend."""
    unused, model_colors = cycle(OTHER_COLORS), dict(MODEL_COLORS)
    for name, (steps, values) in series.items():
        part, model = name.split("/")[0], name.split("/", 1)[1].rsplit("/", 1)[0]
        if model not in model_colors:
            model_colors[model] = next(unused)
        label = f"{model}, {part} (last: {values[-1]:.1f} %)"
        style = {"color": model_colors[model], "marker": marker(steps), "markersize": 3, "clip_on": False}
        axes.plot(steps, values, PART_STYLES[part], label=label, **style)
    axes.set_ylim(0, 1.08 * max((max(values) for _, values in series.values()), default=0) or 1)
    if series:
        axes.legend(fontsize=8, frameon=False)


def draw_losses(axes: "Axes", series: Series) -> None:
    """A line per loss on a logarithmic scale, without values of zero. The total loss is a broad line below its terms.

    Methods log the terms of their loss without weights, so that the terms do not add up to the total.
    """
    unused = cycle(OTHER_COLORS)
    for name, (steps, values) in series.items():
        positive = [(step, value) for step, value in zip(steps, values, strict=True) if value > 0]
        x, y = zip(*positive, strict=True) if positive else ((), ())
        color, total = next(unused), name == "train/loss"
        label = name.removeprefix("train/").replace("_", " ") + (" (weighted sum)" if total else " (unweighted)")
        style = {"linewidth": 5, "alpha": 0.25, "zorder": 1.5} if total else {"linewidth": 1.2, "marker": marker(x)}
        axes.plot(x, y, color=color, markersize=3, label=label, **style)
    axes.set_yscale("log")
    if series:
        axes.legend(fontsize=8, frameon=False)


def draw_pseudo_labels(axes: "Axes", series: Series) -> None:
    """A line per score of the pseudo-labels, with its last value in the legend."""
    for color, (name, (steps, values)) in zip(cycle(OTHER_COLORS), series.items(), strict=False):
        label = f"{name.removeprefix('train/pseudo_label_').replace('_', ' ')} (last: {values[-1]:.1f} %)"
        axes.plot(steps, values, color=color, linewidth=1.2, marker=marker(steps), markersize=3, label=label)
    axes.set_ylim(0, 102)
    if series:
        axes.legend(fontsize=8, frameon=False)


def marker(points: list | tuple) -> str | None:
    """A marker where there are few points; a single point would be invisible without one."""
    return "o" if len(points) <= 20 else None


def aspect_ratio(images: np.ndarray) -> float:
    """Height over width."""
    return images.shape[2] / images.shape[3]


def new_figure(width: float, height: float) -> "Figure":
    """A figure with this size in inches."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> Path:
    """Save the figure as PNG. Returns `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, format="png")
    return path

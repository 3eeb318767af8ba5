"""The pictures of a run's page, as data URIs: learning curves, reliability diagrams and thumbnails."""

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from meanteacher.config import colors
from meanteacher.data.data_uris import data_uri, image_uri
from meanteacher.runs.plots import draw_learning_curves, new_figure
from meanteacher.runs.reliability import Reliability
from meanteacher.training.calibration import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL_SIDE = 96
"""The longest side of a thumbnail in pixels; smaller images keep their size."""

LOSSLESS_SIDE = 48
"""Thumbnails whose longer side has at most this many pixels are stored as PNG, larger ones as JPEG."""


def svg_uri(figure: "Figure") -> str:
    """The figure as SVG with a transparent background."""
    from matplotlib import rc_context

    content = BytesIO()
    with rc_context({"svg.hashsalt": "run", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return data_uri(content.getvalue(), "image/svg+xml")


def curves_uri(history: list[dict]) -> str:
    """The learning curves, two panels in a row."""
    return svg_uri(draw_learning_curves(history, columns=2))


def reliability_uri(measured: list[Reliability]) -> str:
    """A reliability diagram for each, side by side, with the share of the images in each bin below."""
    figure = new_figure(5 * len(measured), 5)
    axes_by_row = figure.subplots(2, len(measured), squeeze=False, sharex=True, height_ratios=(4, 1))
    titles = ["before temperature scaling", "after temperature scaling"]
    for column, (reliability, title) in enumerate(zip(measured, titles, strict=False)):
        diagram, shares = axes_by_row[:, column]
        draw_reliability(diagram, reliability)
        diagram.set_title(f"{title}, ECE {100 * reliability.ece:.1f} %", fontsize=10)
        images = [bin.images for bin in reliability.bins]
        positions = [bin.confidence for bin in reliability.bins]
        shares.bar(positions, 100 * np.array(images) / sum(images), width=0.05, color=colors.GRAY)
        shares.set(xlabel="confidence (%)", ylabel="images (%)", ylim=(0, 100), yticks=(0, 50, 100))
        shares.set_xticks(np.linspace(0, 1, 6), ["0", "20", "40", "60", "80", "100"])
        for axes in (diagram, shares):
            axes.spines[["top", "right"]].set_visible(False)
    return svg_uri(figure)


def draw_reliability(axes: "Axes", reliability: Reliability) -> None:
    """Accuracy over confidence, a point with its 95 % interval per bin, and the line on which both are equal."""
    axes.plot([0, 1], [0, 1], color=colors.GRAY, linewidth=1, linestyle="--", label="confidence = accuracy")
    accuracy = np.array([bin.accuracy for bin in reliability.bins])
    limits = np.array([wilson_interval(round(bin.accuracy * bin.images), bin.images) for bin in reliability.bins])
    distances = np.abs(limits.T - accuracy)
    confidence = [bin.confidence for bin in reliability.bins]
    style = {"color": colors.TEACHER, "marker": "o", "markersize": 4, "capsize": 2, "elinewidth": 1}
    axes.errorbar(confidence, accuracy, yerr=distances, label="accuracy, 95 % interval", **style)
    axes.set(ylabel="accuracy (%)", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.set_yticks(np.linspace(0, 1, 6), ["0", "20", "40", "60", "80", "100"])
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def thumbnail_uri(pixels: np.ndarray) -> str:
    """An image as a small picture: PNG up to 48 pixels, else JPEG with a longer side of at most 96 pixels.

    pixels: uint8 [C, H, W]. Unless C is 3, the first channel is shown in gray.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    return image_uri(image, LOSSLESS_SIDE)

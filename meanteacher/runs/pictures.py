"""The pictures of a finished run: which data each of them shows."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meanteacher.data import Dataset
from meanteacher.runs.fonts import choose_fonts

log = logging.getLogger(__name__)

MOST_LABELED, MOST_VIEWED, COLUMNS = 40, 8, 10
"""Labeled images on their sheet, images on the sheet of views, and columns of the former."""


def draw_pictures(
    folder: Path,
    *,
    title: str,
    data: Dataset,
    labeled: np.ndarray,
    history: list[dict],
    network: str,
    predictions: np.ndarray,
    draw_views: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> dict[str, Path]:
    """Draw learning curves, confusion matrix, labeled images and augmented views; returns their paths by name.

    labeled: int64 positions in the training part; network: the name of the deployed network; predictions: its predicted
    classes on the test part, int64 [N]; draw_views: gives views by name for uint8 images [N, C, H, W]. A picture that
    fails is reported, and the others are drawn all the same.
    """
    from matplotlib import rc_context

    from meanteacher.runs import plots

    families, classes = choose_fonts(data.classes)
    shown = spread_over_classes(labeled, data.train.targets)[:MOST_LABELED]
    pixels = np.array(data.train.pixels[shown])

    def draw_confusion(path: Path) -> None:
        plots.confusion_matrix(predictions, data.test.targets, classes, path, f"{title}: {network}")

    def draw_labeled(path: Path) -> None:
        captions = [classes[target] for target in data.train.targets[shown]]
        plots.image_sheet(pixels, captions, path, f"{data.name}: labeled images", COLUMNS)

    def draw_augmented(path: Path) -> None:
        originals = pixels[:MOST_VIEWED]
        plots.view_sheet(originals, draw_views(originals), path, f"{data.name}: augmented views")

    drawings: dict[str, Callable[[Path], object]] = {
        "curves": lambda path: plots.learning_curves(history, path, title),
        "confusion": draw_confusion,
        "labeled": draw_labeled,
        "views": draw_augmented,
    }
    folder.mkdir(exist_ok=True)
    with rc_context({"font.family": families}):
        return {name: path for name, draw in drawings.items() if (path := drawn(draw, folder / f"{name}.png"))}


def spread_over_classes(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The positions in the order: the first image of each class, the second of each, and so on.

    positions: int64 [M]; targets: int64, the class of the image at each position.
    """
    classes = targets[positions]
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], classes[order])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - starts
    return positions[np.lexsort((classes, ranks))]


def drawn(draw: Callable[[Path], object], path: Path) -> Path | None:
    """The path of a picture or page that was drawn, None (and a warning) if that failed.

    Raises OSError if it cannot be written: the rerun of the command then draws it.
    """
    try:
        draw(path)
    except Exception as error:
        if getattr(error, "errno", None) is not None:
            raise
        log.warning("%s could not be drawn: %s", path.name, error)
        log.debug("%s", path, exc_info=error)
        return None
    return path

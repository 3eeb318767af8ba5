"""Comparison of an exported file with PyTorch and of its resizing with Pillow's."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.data.decoding import read_image
from meanteacher.inference.deployable import Deployable
from meanteacher.inference.predictor import Predictor
from meanteacher.runs.build import load_data

MOST_IMAGES = 16

MOST_DIFFERENT = 1e-4
"""The largest difference of a probability from PyTorch's that is accepted."""

RANDOM_SIZES = ((1, 40, 40), (1, 61, 203), (3, 150, 97))
"""Number, height and width of the random images that are used in any case."""


@dataclass(frozen=True)
class Agreement:
    """images: the number of images of the run, 0 if they are not at hand; the others are random.

    difference: the largest difference of a probability between the file and PyTorch, for the same values of pixels.
    levels: the largest difference of a pixel, of 255, between resizing in the file and by Pillow; resized: the number
    of images that were resized; difference_with_resize: as `difference`, with the resizing of each.
    """

    images: int
    difference: float
    resized: int
    levels: float
    difference_with_resize: float

    def sentences(self) -> list[str]:
        kind = f"{self.images} images of the run" if self.images else "random images, as those of the run are not here,"
        lines = [
            f"{kind}: probabilities differ from PyTorch's in fp32 by at most {self.difference:.1e} "
            f"(limit {MOST_DIFFERENT:g})"
        ]
        resizing = "gives the same pixels as Pillow's"
        if self.levels:
            resizing = (
                f"differs from Pillow's by at most {self.levels:.0f} of 255 per pixel, and the probabilities by "
                f"{self.difference_with_resize:.1e}"
            )
        return [*lines, f"{self.resized} images of other sizes: resizing in the file {resizing}"]


@torch.inference_mode()
def compare(
    run: Callable[[np.ndarray], np.ndarray], deployable: Deployable, predictor: Predictor, images: list[np.ndarray]
) -> Agreement:
    """Compare what was exported with PyTorch on the images and on random ones. Raises UserError if it differs.

    run: uint8 [N, H, W, C] → float32 [N, K]; images: uint8 [H, W, C] of any sizes.
    """
    rng = np.random.default_rng(0)
    channels = predictor.image_shape[0]
    batches = [image[None] for image in images]
    batches += [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in RANDOM_SIZES]
    difference = with_resize = levels = resized = 0
    for batch in batches:
        fitted = np.stack([predictor.reader.read_one(image) for image in batch]).transpose(0, 2, 3, 1)
        expected = predictor.probabilities(fitted).numpy()
        written = run(batch)
        same_pixels = deployable(torch.from_numpy(batch)).numpy()
        difference = max(difference, np.abs(written - same_pixels).max(), np.abs(run(fitted) - expected).max())
        if batch.shape[1:3] != predictor.image_size:
            pixels = deployable.resize(torch.from_numpy(batch)).permute(0, 2, 3, 1).numpy()
            levels = max(levels, np.abs(pixels - fitted).max())
            with_resize = max(with_resize, np.abs(written - expected).max())
            resized += len(batch)
    if not difference <= MOST_DIFFERENT:
        raise UserError(
            f"the exported file gives probabilities that differ from PyTorch's by {difference:.1e}, more than "
            f"{MOST_DIFFERENT:g}; it was not kept; try another format, or other versions of torch and onnxruntime"
        )
    return Agreement(len(images), float(difference), resized, float(levels), float(with_resize))


def images_of_run(settings: Settings, folder: Path, channels: int) -> list[np.ndarray]:
    """Up to 16 images of the run, uint8 [H, W, C], in their original sizes; none if they are not at hand.

    Nothing is downloaded. Images of a folder or a table are those with labels; those of other data sets are of the test
    part.
    """
    node = settings.dataset.node
    if node.get("root") or node.get("file"):
        root = Path(node.get("root") or Path(node["file"]).parent).expanduser()
        return list(read_labeled(root, folder, channels))
    cache = Path(node.get("data_dir", "")).expanduser() / "cache"
    if "data_dir" in node and not any(cache.glob(f"{settings.dataset.name}*")):
        return []
    try:
        pixels = load_data(settings).test.pixels
    except (UserError, OSError):
        return []
    return [np.ascontiguousarray(pixels[p].transpose(1, 2, 0)) for p in spread(len(pixels))]


def read_labeled(root: Path, folder: Path, channels: int) -> Iterator[np.ndarray]:
    """Labeled images of the run that are still below `root`."""
    names = json.loads((folder / "split.json").read_text(encoding="utf-8")).get("labeled_names", [])
    for position in spread(len(names)):
        try:
            image = read_image(root / names[position])
        except Exception:  # Pillow's decoders raise errors of many types
            continue
        pixels = np.array(image if channels == 3 else image.convert("L"))
        yield pixels if channels == 3 else pixels[..., None]


def spread(count: int) -> np.ndarray:
    """Up to `MOST_IMAGES` evenly spaced positions below `count`."""
    return np.unique(np.linspace(0, count - 1, MOST_IMAGES).astype(int)) if count else np.array([], int)

"""Writes small folders of images with known sizes, copies and broken files."""

from pathlib import Path

import numpy as np
from PIL import Image

from meanteacher.inspection.timing import Speed

SPEED = Speed(step=0.1, evaluated_image=0.001)


def draw(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A picture of colored blocks that differs from those of other seeds to the eye. size: width and height."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def fill(root: Path, folder: str, count: int, seed: int, **options) -> list[Path]:
    """Write `count` different JPEG images into a folder."""
    return [save(root / folder / f"{seed + i}.jpg", draw(seed + i, **options), quality=90) for i in range(count)]


def write_folder(root: Path) -> Path:
    """Two classes of 12 and 4 labels, 6 unlabeled and 2 + 2 test images; then copies and broken files.

    A file of unlabeled/ is that of a test image; test/owl/near.jpg is a labeled owl, compressed anew and smaller;
    train/ёж/twin.png looks like an owl that is labeled; one labeled, one unlabeled file are broken.
    """
    owls = fill(root, "train/owl", 12, 0)
    fill(root, "train/ёж", 4, 100, size=(30, 90))
    loose = fill(root, "unlabeled/card 1", 6, 200, size=(64, 64))
    tests = fill(root, "test/owl", 1, 300) + fill(root, "test/ёж", 2, 400, size=(30, 90))
    (loose[0].with_name("again.jpg")).write_bytes(tests[0].read_bytes())
    save(root / "test/owl/near.jpg", draw(0).resize((40, 33)), quality=60)
    save(root / "train/ёж/twin.png", draw(1))
    owls[-1].write_bytes(owls[-1].read_bytes()[:-400])
    loose[-1].write_bytes(b"")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "unlabeled/turned.jpg", draw(500, (64, 32)), exif=exif)
    save(root / "unlabeled/gray.png", draw(501, (64, 32)).convert("L"))
    return root

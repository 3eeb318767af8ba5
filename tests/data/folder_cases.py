"""Helpers that write folders of synthetic images, shared by the tests of image folders."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.folder import image_folder

SIZE = 8


def save(path, *, seed=0, size=(SIZE, SIZE), mode="RGB", **options):
    """Write a random image; size is (width, height). Returns its RGB values."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    image.save(path, **options)
    with Image.open(path) as stored:
        return np.asarray(stored.convert("RGB"))


def fill(root, *, parts=("train", "test"), classes=("cat", "dog"), count=5):
    for part in parts:
        for name in classes:
            for index in range(count):
                seed = int.from_bytes(f"{part}/{name}/{index}".encode())
                save(Path(root) / part / name / f"{index:04d}.png", seed=seed)
    return Path(root)


def load(root, data_dir=None, image_size=SIZE, exclude="none", resize="crop", broken="error"):
    where = data_dir if data_dir is not None else Path(root).parent / "data"
    return image_folder(
        root=str(root),
        data_dir=str(where),
        image_size=image_size,
        resize=resize,
        broken=broken,
        exclude_duplicates=exclude,
    )


def failure(root, **options):
    with pytest.raises(UserError) as error:
        load(root, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


def age(root):
    """Set all time stamps far into the past, so that they can be trusted."""
    for path in Path(root).rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))

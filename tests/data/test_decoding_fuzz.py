"""Image files of damaged content become arrays of one size, or one line that names the file; nothing else.

`test_found_by_fuzzing` keeps what longer searches found; MEANTEACHER_FUZZ=10000 searches for more.
"""

import io
import os
import resource
import struct
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from folder_cases import fill, load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.decoding import decode_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, silenced outside of pytest

MEMORY = 3 * 2**30
"""Bytes that one image may take: 179 million pixels of 4 bytes, a few times."""

SECONDS = 30
"""Processor time that one image may take; the largest ones take 5 seconds."""

few = settings(
    max_examples=int(os.environ.get("MEANTEACHER_FUZZ", 150)),
    deadline=None,
    derandomize="MEANTEACHER_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def encoded(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def originals() -> dict[str, bytes]:
    """Small images of every kind that an image folder takes, some with EXIF data, a palette or several frames."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [noise.rotate(180)]}
    return {
        "jpg": encoded(noise, "JPEG", exif=exif),
        "progressive.jpeg": encoded(noise.convert("CMYK"), "JPEG", progressive=True),
        "png": encoded(noise, "PNG", exif=exif),
        "palette.png": encoded(noise.convert("P"), "PNG", transparency=3),
        "gif": encoded(noise.convert("P"), "GIF", **frames),
        "bmp": encoded(noise, "BMP"),
        "palette.bmp": encoded(noise.convert("P"), "BMP"),
        "webp": encoded(noise, "WEBP", exif=exif),
        "lossless.webp": encoded(noise, "WEBP", lossless=True, **frames),
        "tif": encoded(noise, "TIFF", compression="tiff_lzw"),
        "big.tiff": encoded(noise, "TIFF", big_tiff=True),
        "ppm": encoded(noise, "PPM"),
    }


ORIGINALS = originals()
SIZES = [struct.pack(kind, value) for kind in ("<I", ">I", "<H", ">H") for value in (0, 1, 13_000, 30_000, 65_535)]
patches = st.binary(min_size=1, max_size=8) | st.sampled_from([*SIZES, b"\xff" * 8, b"\xff" * 7 + b"\x3f", b"\0" * 8])


@st.composite
def files(draw) -> tuple[str, bytes]:
    """A suffix, and the bytes of a damaged image, whose format may be that of another suffix."""
    content = bytearray(ORIGINALS[draw(st.sampled_from(sorted(ORIGINALS)))])
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())  # the first bytes hold the sizes
        at = draw(st.integers(0, min(len(content), 60) if near else len(content)))
        change = draw(st.sampled_from(["cut", "bit", "replace", "insert", "delete", "repeat", "swap", "splice"]))
        length = draw(st.integers(1, 40))
        if change == "cut":
            del content[at:]
        elif change == "bit" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "replace":
            patch = draw(patches)
            content[at : at + len(patch)] = patch
        elif change == "insert":
            content[at:at] = draw(patches)
        elif change == "delete":
            del content[at : at + length]
        elif change == "repeat":
            content[at:at] = content[at : at + length]
        elif change == "swap":
            content[at : at + 2 * length] = content[at + length : at + 2 * length] + content[at : at + length]
        elif change == "splice":
            content[at:] = ORIGINALS[draw(st.sampled_from(sorted(ORIGINALS)))][at:]
    return draw(st.sampled_from(sorted(ORIGINALS))), bytes(content)


@contextmanager
def limited_memory(extra: int):
    """Within the context, this process cannot allocate more than `extra` bytes beyond what it has."""
    _, hard = previous = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, previous)


def check(path, size: int, resize: str) -> None:
    began = time.process_time()
    try:
        with limited_memory(MEMORY):
            decoded = decode_image(path, image_size=size, resize=resize)
    except UserError as error:
        text = str(error)
        assert text.startswith(f"image {path} cannot be read (") and text.endswith("): delete or replace it")
        assert text.isprintable() and "MemoryError" not in text and len(text) < len(str(path)) + 200
    else:
        assert decoded.shape == (3, size, size) and decoded.dtype == np.uint8
    assert time.process_time() - began < SECONDS


@few
@given(files(), st.sampled_from([1, 8, 33]), st.sampled_from(["crop", "squash", "pad"]))
def test_a_damaged_image_is_decoded_or_refused_in_one_line(tmp_path_factory, file, size, resize):
    path = tmp_path_factory.getbasetemp() / f"damaged.{file[0]}"
    path.write_bytes(file[1])
    check(path, size, resize)


@settings(few, max_examples=5)
@given(st.lists(files(), min_size=20, max_size=20))
def test_a_folder_with_damaged_images_is_loaded_without_them(tmp_path_factory, damaged):
    folder = tmp_path_factory.mktemp("damaged")
    root = fill(folder / "root")
    for number, (suffix, content) in enumerate(damaged):
        (root / "train/cat" / f"damaged-{number}.{suffix}").write_bytes(content)
    dataset = load(root, broken="skip")
    names = [f"train/cat/damaged-{number}.{suffix}" for number, (suffix, _) in enumerate(damaged)]
    assert set(names) == {name for name in [*dataset.train.names, *dataset.broken] if "damaged" in name}
    assert len(dataset.train.names) + len(dataset.broken) == 10 + 20


FOUND = {
    "offset.tiff": ORIGINALS["big.tiff"][:8] + b"\xff" * 7 + b"\x3f" + ORIGINALS["big.tiff"][16:],
}


@pytest.mark.parametrize("name", FOUND)
def test_found_by_fuzzing(name, tmp_path):
    root = fill(tmp_path / "root")
    (root / "train/cat" / name).write_bytes(FOUND[name])
    check(root / "train/cat" / name, 8, "crop")
    assert set(load(root, broken="skip").broken) == {f"train/cat/{name}"}

"""Image files of every kind become arrays of one size, or one line that names the file."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from conftest import ROOT
from folder_cases import fill, load, save
from PIL import EpsImagePlugin, Image

from meanteacher.config.errors import UserError
from meanteacher.data.decoding import decode_image, load_image, resize_image
from meanteacher.inspection.reading import read_facts


def refusal(source) -> str:
    with pytest.raises(UserError) as error:
        decode_image(source, image_size=8, resize="crop")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


def png_16_bits(channels: np.ndarray) -> bytes:
    """A PNG file of 16 bits per channel, which Pillow cannot write. channels: uint16 [H, W, C]."""
    height, width, count = channels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    color = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_16_bits_become_their_upper_8(tmp_path, count):
    values = np.random.default_rng(count).integers(0, 2**16, (5, 5, count), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(png_16_bits(values))
    expected = values[..., :3] if count > 2 else values[..., :1].repeat(3, axis=2)
    decoded = decode_image(tmp_path / "deep.png", image_size=5, resize="crop")
    np.testing.assert_array_equal(decoded, (expected // 256).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.jpg", "CMYK"),
        ("a.jpg", "L"),
        ("a.png", "LA"),
        ("a.png", "1"),
        ("a.gif", "P"),
        ("a.tif", "CMYK"),
        ("a.tif", "RGBA"),
        ("a.webp", "RGBA"),
        ("a.bmp", "L"),
    ],
)
def test_modes_are_converted_to_rgb_and_transparency_is_dropped(tmp_path, name, mode):
    values = save(tmp_path / name, mode=mode)
    np.testing.assert_array_equal(decode_image(tmp_path / name, image_size=8, resize="pad"), values.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_the_first_frame_is_used(tmp_path, suffix):
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("#ff0000", "#0000ff"))
    options = {"lossless": True} if suffix == "webp" else {}
    red.save(tmp_path / f"moving.{suffix}", save_all=True, append_images=[blue], **options)
    decoded = decode_image(tmp_path / f"moving.{suffix}", image_size=8, resize="crop")
    assert decoded.reshape(3, -1).T.tolist() == [[255, 0, 0]] * 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_exif_is_applied(tmp_path, orientation):
    """Row and column 0 of the stored pixels lie, in the upright image, where the EXIF standard says."""
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[0, :, 0], stored[:, 0, 1] = 255, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(load_image(tmp_path / "turned.png"))
    row, column = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    sides = {"t": (0, slice(None)), "b": (-1, slice(None)), "l": (slice(None), 0), "r": (slice(None), -1)}
    assert upright[sides[row]][..., 0].min() == 255 and upright[sides[column]][..., 1].min() == 255
    assert upright[..., 0].sum() == 255 * 6 and upright[..., 1].sum() == 255 * 4


def test_resize_policies(tmp_path):
    """A wide image of three colored thirds."""
    values = np.zeros((10, 30, 3), np.uint8)
    for third in range(3):
        values[:, 10 * third : 10 * third + 10, third] = 240
    image = Image.fromarray(values)
    cropped, squashed, padded = (resize_image(image, image_size=30, resize=r) for r in ("crop", "squash", "pad"))
    assert cropped[1].min() > 100 and cropped[1][:, 3:-3].min() == 240
    for third in range(3):
        assert squashed[third, :, 10 * third : 10 * third + 10].min() == 240
    np.testing.assert_array_equal(padded[:, 10:20], values.transpose(2, 0, 1))
    assert padded[:, :10].max() == 0 and padded[:, 20:].max() == 0
    turned = resize_image(image.transpose(Image.Transpose.TRANSPOSE), image_size=30, resize="pad")
    np.testing.assert_array_equal(turned, padded.transpose(0, 2, 1))


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1, 1), (224, 224)])
@pytest.mark.parametrize("image_size", [32, 224])
def test_extreme_shapes_are_resized(size, image_size, resize):
    decoded = decode_image(Image.new("RGB", size, "white"), image_size=image_size, resize=resize)
    assert decoded.shape == (3, image_size, image_size) and decoded.dtype == np.uint8 and decoded.max() == 255


def test_an_image_in_memory_is_decoded_as_its_file_and_not_changed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((12, 20), 50).convert("RGB").save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        decoded = decode_image(image, image_size=8, resize="pad")
        assert image.size == (12, 20)
    np.testing.assert_array_equal(decoded, decode_image(str(tmp_path / "a.png"), image_size=8, resize="pad"))


def test_32_bits_are_refused_in_one_line(tmp_path):
    for kind in (np.int32, np.float32):
        Image.fromarray(np.zeros((8, 8), kind)).save(tmp_path / "scan.tif")
        assert "scan.tif cannot be read" in refusal(tmp_path / "scan.tif") and "32 bits" in refusal(
            tmp_path / "scan.tif"
        )
        assert "32 bits" in refusal(Image.fromarray(np.zeros((8, 8), kind)))


def test_a_program_in_postscript_is_refused_under_any_suffix(tmp_path, monkeypatch):
    def ghostscript(*arguments, **options):
        raise AssertionError("Ghostscript would be started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg", "EPS")
    assert "photo.jpg cannot be read (ValueError: it is a program in PostScript" in refusal(tmp_path / "photo.jpg")
    assert "PostScript" in refusal((tmp_path / "photo.jpg").read_bytes())
    with Image.open(tmp_path / "photo.jpg") as image:
        assert "PostScript" in refusal(image)
    facts, pixels = read_facts(tmp_path / "photo.jpg")
    assert "PostScript" in facts.error and pixels is None


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_in_one_line(tmp_path):
    """A few bytes that claim 400 and 100 million pixels; the smaller one is refused for its missing pixels only."""
    for side, words in ((20_000, "more than 179 million pixels"), (10_000, "cannot be read")):
        content = png_16_bits(np.zeros((1, 1, 3), np.uint16))
        header = struct.pack(">II", side, side) + content[24:29]
        crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        (tmp_path / "bomb.png").write_bytes(content[:16] + header + crc + content[33:])
        assert words in refusal(tmp_path / "bomb.png")


def test_files_that_are_no_regular_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    os.symlink("self.jpg", tmp_path / "self.jpg")
    for name in ("pipe.jpg", "zero.jpg"):
        assert "not a regular file" in refusal(tmp_path / name)
    assert "levels of symbolic links" in refusal(tmp_path / "self.jpg")
    assert "cannot be read (FileNotFoundError" in refusal(tmp_path / "none.jpg")


def test_each_policy_has_its_own_cache(tmp_path):
    root = fill(tmp_path / "root")
    save(root / "train/cat/wide.png", size=(24, 8))
    loaded = {resize: load(root, resize=resize) for resize in ("crop", "squash", "pad")}
    row = loaded["crop"].train.names.index("train/cat/wide.png")
    for resize, dataset in loaded.items():
        expected = decode_image(root / "train/cat/wide.png", image_size=8, resize=resize)
        np.testing.assert_array_equal(dataset.train.pixels[row], expected)
        assert load(root, resize=resize).notes == dataset.notes
    notes = [dataset.notes[0].split(" to ")[0] for dataset in loaded.values()]
    assert notes == ["resized and center-cropped", "squashed", "resized and padded"]


def test_a_large_image_and_damaged_exif_data_do_not_warn(tmp_path):
    Image.new("1", (9600, 9600)).save(tmp_path / "large.png")
    exif = Image.Exif()
    exif[0x010E] = "a long description"
    content = bytearray(exif.tobytes())
    content[14] = 255  # the description would be longer than the file
    Image.new("RGB", (8, 8)).save(tmp_path / "exif.jpg", exif=bytes(content))
    code = "from meanteacher.data.decoding import load_image; import sys; [load_image(path) for path in sys.argv[1:]]"
    start = [sys.executable, "-c", code, str(tmp_path / "large.png"), str(tmp_path / "exif.jpg")]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""

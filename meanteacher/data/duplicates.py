"""Finds training images that duplicate test images: exactly, or nearly by a perceptual hash and the pixels."""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.data.cache import allocate, load_or_decode, make_reader
from meanteacher.data.images import Dataset, Images

KINDS = ("none", "near", "exact")
"""What a code says of an image: codes are positions here, and a larger one implies the smaller ones."""

MAX_DISTANCE = 7
"""Near duplicates differ in at most this many of the 64 bits of the perceptual hash."""

MAX_SHIFT = 16
"""Near duplicates differ by at most this much in mean brightness, of 255."""

MAX_SHARE, MAX_NOISE = 0.1, 2
"""The thumbnails of near duplicates, without their means, have an RMS difference of at most this share of their
standard deviation, plus this much."""

MIN_CONTRAST = 4
"""Images whose thumbnails have a smaller standard deviation show too little to be near duplicates."""

_BANDS = MAX_DISTANCE + 1
_PAIRS = 4_000_000
_BATCH_BYTES = 32 * 2**20
_ORDER = (np.arange(8) * 8 + (np.arange(8) + np.arange(8)[:, None]) % 8).reshape(-1)
"""Bit order of the hash: each band takes one bit from every row and every column, so that few images share a band."""

_FILE = "duplicates.npy"
_BITS = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1)


def handle_duplicates(dataset: Dataset, *, directory: Path, key: str, exclude: str) -> Dataset:
    """Count the duplicates of a data set, note them, and drop those of test images from its training part.

    dataset: as cached under directory/cache/key. exclude: the kind of duplicates to drop, of `KINDS`; what is left is
    cached too. Raises UserError where no training image with a label is left.
    """
    train = dataset.train
    codes = find_duplicates(train, dataset.test, directory / "cache" / key)
    counts = count_duplicates(codes, train.targets < 0)
    dropped = codes[:, 0] >= KINDS.index(exclude) if exclude != "none" else np.zeros(len(codes), bool)
    if not (train.targets[~dropped] >= 0).any():
        raise UserError(f"dataset.exclude_duplicates={exclude}: every training image duplicates a test image")
    if dropped.any():
        dataset = load_or_decode(
            directory=directory,
            key=f"{key}-without-{exclude}",
            decode=lambda folder: copy_without(dataset, np.flatnonzero(~dropped), folder),
        )
    counts |= {"dropped": int(dropped.sum())}
    notes = [describe_duplicates(counts)] if any(counts.values()) else []
    return replace(dataset, notes=dataset.notes + notes, duplicates=counts)


def copy_without(dataset: Dataset, rows: np.ndarray, folder: Path) -> Dataset:
    """Copy a data set into an empty cache folder, with only these rows (int64, sorted) of its training part."""
    parts = {}
    for part, positions in (("train", rows), ("test", np.arange(len(dataset.test.targets)))):
        images: Images = getattr(dataset, part)
        pixels = allocate(folder=folder, part=part, shape=(len(positions), *images.pixels.shape[1:]))
        copied = 0
        for batch in image_batches(images.pixels, positions):
            pixels[copied : copied + len(batch)] = batch
            copied += len(batch)
        names = [images.names[row] for row in positions]
        parts[part] = Images(pixels=pixels, targets=images.targets[positions], names=names)
    return replace(dataset, **parts)


def describe_duplicates(counts: dict[str, int]) -> str:
    """The counts in one line, and what was done or can be done about them."""
    pairs = {"train_test": "training/test", "unlabeled_test": "unlabeled/test", "unlabeled_train": "unlabeled/training"}
    pairs_with_duplicates = [
        f"{name} {counts[f'{part}_exact']} exact, {counts[f'{part}_near']} with near ones"
        for part, name in pairs.items()
        if counts[f"{part}_near"]
    ]
    advice = "all kept; dataset.exclude_duplicates=exact or near drops those of test images"
    done = f"{counts['dropped']} of them dropped" if counts["dropped"] else advice
    return f"duplicate images: {'; '.join(pairs_with_duplicates)}: {done}"


def find_duplicates(train: Images, test: Images, folder: Path) -> np.ndarray:
    """Whether each training image duplicates a test image or, if it is unlabeled, a labeled one: codes, uint8 [N, 2].

    Computed once for these labels and stored in `folder`, the cache of these images; computed each time where it
    cannot be written to.
    """
    unlabeled = train.targets < 0
    with contextlib.suppress(OSError, ValueError, EOFError):
        stored = np.load(folder / _FILE, allow_pickle=False)
        if stored.shape == (len(train.targets), 3) and (stored[:, 2] == unlabeled).all():
            return stored[:, :2]
    codes = np.zeros((len(train.targets), 2), np.uint8)
    training = Signatures.of(train.pixels)
    codes[:, 0] = training.compare(Signatures.of(test.pixels))
    codes[unlabeled, 1] = training.rows(unlabeled).compare(training.rows(~unlabeled))
    with contextlib.suppress(OSError):
        content = io.BytesIO()
        np.save(content, np.column_stack([codes, unlabeled]).astype(np.uint8))
        write_atomically(folder / _FILE, content.getvalue())
    return codes


def count_duplicates(codes: np.ndarray, unlabeled: np.ndarray) -> dict[str, int]:
    """The number of duplicates by parts and kind; near ones include exact ones. codes: as of `find_duplicates`.

    unlabeled: bool [N], the training images without a label.
    """
    parts = {"train_test": codes[~unlabeled, 0], "unlabeled_test": codes[unlabeled, 0], "unlabeled_train": codes[:, 1]}
    return {
        f"{name}_{kind}": int((part >= KINDS.index(kind)).sum())
        for name, part in parts.items()
        for kind in ("exact", "near")
    }


@dataclass(frozen=True)
class Signatures:
    """Hashes and thumbnails of images, uint8 [N, C, H, W].

    exact: uint64 [N], of all pixels. perceptual: uint64 [N], the signs of the horizontal differences of an 8×9
    thumbnail in gray (dHash). thumbnails: float32 [N, C · 64], 8×8 means of the pixels.
    """

    exact: np.ndarray
    perceptual: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, positions: np.ndarray | None = None) -> Self:
        """The signatures of images, uint8 [N, C, H, W]: of those at the positions, int64 [M], or of all."""
        positions = np.arange(len(pixels)) if positions is None else positions
        return cls(*(np.concatenate(parts) for parts in zip(*signature_batches(pixels, positions), strict=True)))

    def rows(self, which: np.ndarray) -> Self:
        """The signatures of some images. which: bool [N]."""
        return type(self)(self.exact[which], self.perceptual[which], self.thumbnails[which])

    def compare(self, others: "Signatures") -> np.ndarray:
        """For each image, the code of the closest kind of duplicate among the others: uint8 [N]."""
        near = np.zeros(len(self.exact), bool)
        for mine, _ in self.near_pairs(others):
            near[mine] = True
        codes = np.where(near, KINDS.index("near"), KINDS.index("none"))
        return np.where(np.isin(self.exact, others.exact), KINDS.index("exact"), codes).astype(np.uint8)

    def near_pairs(self, others: "Signatures") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions here and among the others of images that look the same, int64, a chunk at a time.

        A pair may occur more than once.
        """
        contrast, structured = self.thumbnails.std(axis=1), others.thumbnails.std(axis=1) > MIN_CONTRAST
        rows, columns = np.flatnonzero(contrast > MIN_CONTRAST), np.flatnonzero(structured)
        for left, right in candidate_pairs(self.perceptual[rows], others.perceptual[columns]):
            mine, theirs = rows[left], columns[right]
            difference = self.thumbnails[mine] - others.thumbnails[theirs]
            alike = difference.std(axis=1) <= MAX_NOISE + MAX_SHARE * contrast[mine]
            alike &= np.abs(difference.mean(axis=1)) <= MAX_SHIFT
            yield mine[alike], theirs[alike]


def signature_batches(pixels: np.ndarray, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The arrays of `Signatures`, a batch of the images at the positions, int64 [M], at a time."""
    height, width = pixels.shape[2:]
    for images in image_batches(pixels, positions):
        gray = shrink(images.mean(axis=1, dtype=np.float32), averaging(height, 8), averaging(width, 9))
        bits = np.packbits((gray[:, :, 1:] > gray[:, :, :-1]).reshape(-1, 64)[:, _ORDER], axis=1)
        thumbnails = shrink(images.astype(np.float32), averaging(height, 8), averaging(width, 8))
        yield (
            hash_images(images),
            np.ascontiguousarray(bits).view(np.uint64)[:, 0],
            thumbnails.reshape(len(images), -1),
        )


def exact_hashes(pixels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """`Signatures.exact` alone, of the images at the positions, int64 [M]: uint64 [M]."""
    batches = (hash_images(images) for images in image_batches(pixels, positions))
    return np.concatenate([np.empty(0, np.uint64), *batches])


def hash_images(images: np.ndarray) -> np.ndarray:
    """Hashes of all pixels of each image: uint64 [B]. images: uint8 [B, C, H, W]."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


def image_batches(pixels: np.ndarray, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Copies of the images at the positions, int64 [M], a batch at a time: uint8 [B, C, H, W]."""
    read, size = make_reader(pixels), batch_size(pixels)
    for start in range(0, len(positions), size):
        yield read(positions[start : start + size])


def batch_size(pixels: np.ndarray) -> int:
    """How many images of this size are read at once."""
    return max(1, min(1024, _BATCH_BYTES // pixels[0].nbytes))


def averaging(size: int, count: int) -> np.ndarray:
    """A matrix, float32 [count, size], that averages a line of pixels over `count` equal stretches."""
    edges = np.arange(count + 1) * size / count
    low, high = np.maximum(edges[:-1, None], np.arange(size)), np.minimum(edges[1:, None], np.arange(size) + 1)
    return ((high - low).clip(min=0) * count / size).astype(np.float32)


def shrink(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Area averages of images, float32 [..., H, W]."""
    return rows @ images @ columns.T


def candidate_pairs(mine: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of all pairs of hashes, uint64, that differ in at most `MAX_DISTANCE` bits, a chunk at a time.

    Such hashes are equal in at least one of `MAX_DISTANCE` + 1 bands of 8 bits, so only pairs with an equal band are
    compared. A pair may occur more than once.
    """
    for band in range(_BANDS):
        keys, others = (hashes.view(np.uint8).reshape(-1, _BANDS)[:, band] for hashes in (mine, theirs))
        order = np.argsort(others, kind="stable")
        first, last = (np.searchsorted(others[order], keys, side) for side in ("left", "right"))
        counts = last - first
        for rows in np.split(np.arange(len(mine)), chunk_starts(counts)):
            left = np.repeat(rows, counts[rows])
            offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
            right = order[np.repeat(first[rows], counts[rows]) + offsets]
            differing = (mine[left] ^ theirs[right]).view(np.uint16).reshape(-1, 4)
            close = _BITS[differing].sum(axis=1) <= MAX_DISTANCE
            yield left[close], right[close]


def count_candidates(hashes: np.ndarray) -> int:
    """How many pairs `candidate_pairs` compares where both arguments are these hashes, uint64."""
    bands = hashes.view(np.uint8).reshape(-1, _BANDS)
    return sum(int((np.bincount(bands[:, band]) ** 2).sum()) for band in range(_BANDS))


def chunk_starts(counts: np.ndarray) -> np.ndarray:
    """Where to cut rows of `counts` pairs each, so that a chunk has about `_PAIRS` pairs."""
    return np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1

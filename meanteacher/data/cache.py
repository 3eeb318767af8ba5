"""Decoded images on disk: decoded once, in parallel, stored as .npy files, and memory-mapped from then on.

Everything is in `data_dir/cache`, which may be deleted at any time and is rebuilt when it is next needed.
"""

import contextlib
import json
import logging
import mmap
import os
import shutil
import sys
import textwrap
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.data.images import Dataset, Images

log = logging.getLogger(__name__)

_FORMAT = 1
"""Increase this number when the decoded images change: caches of another format are rebuilt."""

_PARTS = ("train", "test")
_FILES = ("train.npy", "test.npy", "train_targets.npy", "test_targets.npy")
_VERIFIED_BYTES = 2**31
"""Larger files are not verified at each start: reading them would take seconds."""
_CHUNK = 64
_BYTES_PER_THREAD = 4096


def describe(error: BaseException) -> str:
    """The type and message of an exception, in one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or str(error)
    return textwrap.shorten(f"{type(error).__name__}: {text}" if text else type(error).__name__, 200)


def allocate(*, folder: Path, part: str, shape: tuple[int, ...]) -> np.ndarray:
    """A writable uint8 memory map of `shape` in a cache folder under construction; `part` is "train" or "test".

    The disk space is reserved at once: running out of it later would kill the process instead of raising OSError.
    """
    path = folder / f"{part}.npy"
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def keep_rows(*, folder: Path, part: str, pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Replace a memory map that `allocate` made by one of these rows alone, int64 [M], which is returned."""
    kept = allocate(folder=folder, part=f"{part}-kept", shape=(len(rows), *pixels.shape[1:]))
    for start in range(0, len(rows), _CHUNK):
        kept[start : start + _CHUNK] = pixels[rows[start : start + _CHUNK]]
    os.replace(folder / f"{part}-kept.npy", folder / f"{part}.npy")
    return kept


def load_or_decode(*, directory: Path, key: str, decode: Callable[[Path], Dataset]) -> Dataset:
    """The data set in `directory/cache/key`, its pixels memory-mapped read-only; decoded first if it is not there.

    decode: a function of an empty folder that returns a Dataset whose pixels were made by `allocate` in that folder.

    The folder gets its final name when it is complete, so a process that is killed leaves no partial cache behind. If
    several processes need the same data set, one decodes it while the others wait. A cache that is incomplete,
    unreadable or does not have its checksums is rebuilt. Raises UserError if `directory` cannot be written to; reading
    an existing cache needs no write access.
    """
    final = directory / "cache" / key
    dataset = _load(final)
    if dataset is not None:
        return dataset
    with _report_write_errors(directory), _lock(final):
        dataset = _load(final)  # another process may have built it in the meantime
        if dataset is None:
            _build(final=final, decode=decode)
            dataset = _load(final)
    if dataset is None:
        raise UserError(f"{final} cannot be read back after it was written: delete it and check the disk")
    return dataset


def make_reader(pixels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A thread-safe function from positions, int64 [B], to copies of those images, uint8 [B, C, H, W].

    Images of a file that is memory-mapped read-only are read from the file instead of through the map: every page
    touched through a map counts as resident memory of this process while the map exists, in the end the whole file.
    """
    from_file = (
        getattr(pixels, "mode", None) == "r" and isinstance(pixels.base, mmap.mmap) and pixels.flags.c_contiguous
    )
    if not from_file:
        return pixels.__getitem__
    file, shape, size = os.open(pixels.filename, os.O_RDONLY), pixels.shape[1:], pixels[0].nbytes

    def read(index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), *shape), np.uint8)
        rows = memoryview(images.reshape(-1))
        for row, position in enumerate(index.tolist()):
            rows[row * size : (row + 1) * size] = os.pread(file, size, pixels.offset + position * size)
        return images

    weakref.finalize(read, os.close, file)
    return read


def load_or_compute(*, directory: Path, key: str, condition: str, compute: Callable[[], str], store: bool) -> str:
    """The text stored in `directory/cache/key` if it was stored with the same `condition`; otherwise `compute()`.

    store: whether to store a computed text for the next call. Neither text may contain white space.
    Raises UserError if `directory` cannot be written to.
    """
    path = directory / "cache" / key
    with contextlib.suppress(OSError, ValueError):
        stored_condition, value = path.read_text(encoding="utf-8").split()
        if stored_condition == condition:
            return value
    with _report_write_errors(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        value = compute()
        if store:
            write_atomically(path, f"{condition} {value}\n")
    return value


def map_in_threads(*, function: Callable[[Any], Any], items: Sequence[Any], nbytes: int, title: str) -> list[Any]:
    """Apply `function` to every item in threads, with a progress bar on a terminal. Returns the results in order.

    nbytes: the total size of the items' files. One thread per processor pays off for large files only: with small
    files most of the time is spent in the interpreter, which runs one thread at a time, and two threads are slower
    than one. An exception of `function` is raised here, and the remaining items are dropped.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    threads = min(os.cpu_count() or 1, 1 + nbytes // max(len(items), 1) // _BYTES_PER_THREAD)
    results: list[Any] = []
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(items), desc=title, unit=" images", disable=not sys.stderr.isatty()) as bar,
    ):
        for chunk_results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            results.extend(chunk_results)
            bar.update(len(chunk_results))
    return results


@contextlib.contextmanager
def _report_write_errors(directory: Path) -> Iterator[None]:
    """Turn an OSError raised while writing into a UserError that names `data_dir`."""
    try:
        (directory / "cache").mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"data_dir {directory.absolute()} cannot be written to ({describe(error)}): "
            "make room or give access to it, or set data_dir to another folder"
        ) from error


@contextlib.contextmanager
def _lock(final: Path) -> Iterator[None]:
    """Hold the lock of one cache folder. It is released when the process ends, even if it is killed."""
    from filelock import FileLock

    with FileLock(final.with_name(f".{final.name}.lock")):
        yield


def _build(*, final: Path, decode: Callable[[Path], Dataset]) -> None:
    """Decode into a temporary folder beside `final`, then rename it. The caller holds the lock."""
    partial = final.with_name(f".{final.name}.partial")
    _remove(partial)
    partial.mkdir()
    try:
        _save(folder=partial, dataset=decode(partial))
        _remove(final)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove(path: Path) -> None:
    """Delete a folder or a file if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _save(*, folder: Path, dataset: Dataset) -> None:
    """Write everything but the pixels. index.json comes last: it marks the cache as complete."""
    for part in _PARTS:
        images = getattr(dataset, part)
        images.pixels.flush()
        np.save(folder / f"{part}_targets.npy", images.targets.astype(np.int64))
    index = {
        "format": _FORMAT,
        "name": dataset.name,
        "classes": dataset.classes,
        "notes": dataset.notes,
        "broken": dataset.broken,
        "names": {part: getattr(dataset, part).names for part in _PARTS},
        "checksums": {name: _checksum(folder / name) for name in _FILES},
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _load(folder: Path) -> Dataset | None:
    """The data set in a cache folder, or None if it is missing, incomplete or of another format."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != _FORMAT:
            return None
        for name, checksum in index.get("checksums", {}).items():  # caches of earlier versions have none
            if _checksum(folder / name) != checksum:
                log.warning("%s is damaged; the images are read again", folder / name)
                return None
        parts = {part: _load_part(folder=folder, part=part, names=index["names"][part]) for part in _PARTS}
        stored = {field: index[field] for field in ("name", "classes", "notes")}
        return Dataset(**stored, broken=index.get("broken", {}), **parts)
    except (OSError, ValueError, EOFError, KeyError, TypeError, UserError):
        return None


def _checksum(path: Path) -> int | None:
    """The CRC-32 of a file, read without adding to the resident memory; None for a large file."""
    if path.stat().st_size > _VERIFIED_BYTES:
        return None
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _load_part(*, folder: Path, part: str, names: list[str]) -> Images:
    """One part, its pixels memory-mapped. Raises OSError, ValueError or EOFError if a file is missing or truncated."""
    pixels = np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
    targets = np.load(folder / f"{part}_targets.npy", allow_pickle=False)
    return Images(pixels=pixels, targets=targets, names=names)

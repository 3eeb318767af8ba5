"""Decoded images on disk: decoded by all processors, written once as .npy files, memory-mapped ever after.

Everything lies in `data_dir/cache`, which may be deleted at any time: it is rebuilt when it is next needed.
"""

import contextlib
import json
import mmap
import os
import shutil
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data import Dataset, Images

_FORMAT = 1
"""Raise it when what decoding yields changes: caches of another format are rebuilt."""

_PARTS = ("train", "test")
_CHUNK = 64
_BYTES_PER_THREAD = 4096


def reason(error: BaseException) -> str:
    """What an exception says, in one line of at most 200 characters, starting with its type."""
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


def cached(*, directory: Path, key: str, decode: Callable[[Path], Dataset]) -> Dataset:
    """The dataset stored as `directory/cache/key`, its pixels memory-mapped read-only; decoded first where it is not.

    decode: called with an empty folder; returns a Dataset whose pixels were made by `allocate` in that folder. The
        folder takes its final name once it is complete, so a run that is killed leaves nothing half-written behind.
        Of several processes one decodes while the others wait. A cache that is incomplete or unreadable is rebuilt.
    Raises UserError where `directory` cannot be written to (never when the cache is there to be read).
    """
    final = directory / "cache" / key
    found = _load(final)
    if found is not None:
        return found
    with _writing(directory), _locked(final):
        found = _load(final)  # another process may have built it while this one waited
        if found is None:
            _build(final=final, decode=decode)
            found = _load(final)
    if found is None:
        raise UserError(f"{final} cannot be read back after it was written: delete it and check the disk")
    return found


def reader(pixels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from positions, int64 [B], to copies of those images, uint8 [B, C, H, W]; threads may share it.

    Images of a file that is memory-mapped read-only are read from the file: what is touched through the map counts as
    memory of this process for as long as the map lives, in the end the whole file.
    """
    whole = getattr(pixels, "mode", None) == "r" and isinstance(pixels.base, mmap.mmap) and pixels.flags.c_contiguous
    if not whole:
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


def remembered(*, directory: Path, key: str, condition: str, compute: Callable[[], str], store: bool) -> str:
    """The text `compute()` gave when it was last asked for under `key` with the same `condition`, else `compute()` now.

    One small file per key, replaced atomically, and only where `store` holds. Neither text may contain white space.
    Raises UserError where `directory` cannot be written to.
    """
    path = directory / "cache" / key
    with contextlib.suppress(OSError, ValueError):
        stored_condition, value = path.read_text(encoding="utf-8").split()
        if stored_condition == condition:
            return value
    with _writing(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        value = compute()
        if store:
            temporary = path.with_name(f"{path.name}.{os.getpid()}")
            temporary.write_text(f"{condition} {value}\n", encoding="utf-8")
            os.replace(temporary, path)
    return value


def in_parallel(*, function: Callable[[Any], Any], items: Sequence[Any], nbytes: int, title: str) -> list[Any]:
    """`function` of every item, in order, by threads; with a bar on a terminal.

    nbytes: what the items' files hold together. As many threads as there are processors pay only for large files: with
    small ones most of the time goes to Python itself, which runs in one thread at a time, and two are slower than one.
    What `function` raises is raised here, and what is left to do is dropped.
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
        for done in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            results.extend(done)
            bar.update(len(done))
    return results


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Turns an OSError met while writing into the one line a user needs."""
    try:
        (directory / "cache").mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"data_dir {directory.absolute()} cannot be written to ({reason(error)}): "
            "make room or give access to it, or set data_dir to another folder"
        ) from error


@contextlib.contextmanager
def _locked(final: Path) -> Iterator[None]:
    """Holds the lock of one cache folder; it is freed when the process ends, however it ends."""
    from filelock import FileLock

    with FileLock(final.with_name(f".{final.name}.lock")):
        yield


def _build(*, final: Path, decode: Callable[[Path], Dataset]) -> None:
    """Decodes into a neighbour of `final`, then renames it; call it with the lock held."""
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
    """Deletes a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _save(*, folder: Path, dataset: Dataset) -> None:
    """Writes what `allocate` has not: targets as .npy, the rest as JSON (last, as it says that all is there)."""
    for part in _PARTS:
        images = getattr(dataset, part)
        images.pixels.flush()
        np.save(folder / f"{part}_targets.npy", images.targets.astype(np.int64))
    index = {
        "format": _FORMAT,
        "name": dataset.name,
        "classes": dataset.classes,
        "notes": dataset.notes,
        "names": {part: getattr(dataset, part).names for part in _PARTS},
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _load(folder: Path) -> Dataset | None:
    """The dataset in a cache folder, or None where there is none that is whole and of the present format."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != _FORMAT:
            return None
        parts = {part: _load_part(folder=folder, part=part, names=index["names"][part]) for part in _PARTS}
        return Dataset(name=index["name"], classes=index["classes"], notes=index["notes"], **parts)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def _load_part(*, folder: Path, part: str, names: list[str]) -> Images:
    """One part, memory-mapped. Raises OSError, ValueError or EOFError where a file is missing, cut short or foreign."""
    pixels = np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
    targets = np.load(folder / f"{part}_targets.npy", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or targets.shape != (len(pixels),) or len(names) != len(pixels):
        raise ValueError(f"{folder}: the files of {part} do not belong together")
    return Images(pixels=pixels, targets=targets, names=names)

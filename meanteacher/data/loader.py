"""Batches of uint8 images on the device, as a pure function of (seed, step), from a resident copy or a memory map."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.data.cache import make_reader
from meanteacher.data.images import Images
from meanteacher.data.random_streams import RunStream, numpy_generator
from meanteacher.data.splits import Split


class RawBatch(NamedTuple):
    """index: int64 [B], positions in the training part; pixels: uint8 [B, C, H, W]; both on the device."""

    index: Tensor
    pixels: Tensor


class EpochSampler:
    """An endless sequence of positions: the pool in a new random order each epoch, cut into batches.

    pool: int64 [N]. A batch may span two or more epochs. position: where in the stream the epochs are counted from.
    """

    def __init__(self, pool: np.ndarray, batch: int, seed: int, stream: RunStream, *position: int):
        self.pool, self.batch = pool, batch
        generator = partial(numpy_generator, seed, stream, *position)
        self.order = lru_cache(maxsize=4)(lambda epoch: generator(epoch).permutation(pool))

    def __call__(self, step: int) -> np.ndarray:
        """The positions of a step: int64 [batch]."""
        pieces, start = [], step * self.batch
        while start < (step + 1) * self.batch:
            epoch, offset = divmod(start, len(self.pool))
            pieces.append(self.order(epoch)[offset : offset + (step + 1) * self.batch - start])
            start += len(pieces[-1])
        return np.concatenate(pieces)


class BalancedSampler:
    """An endless sequence of positions in which all classes are equally frequent, cut into batches.

    In each turn, every class gives one image, in a random order of the classes. So in every batch, the counts of two
    classes differ by at most two, and by none where it is a whole number of turns that start with it. Each class gives
    all of its images, in a new random order, before it repeats one.
    pool: int64 [N]; targets: int64 [N], their classes. Classes without an image take no turn.
    """

    turns = 256
    """Turns are drawn in chunks of this many, which are kept."""

    def __init__(self, pool: np.ndarray, targets: np.ndarray, batch: int, seed: int):
        self.pool, self.batch, self.seed = pool, batch, seed
        self.classes = [
            EpochSampler(pool[targets == c], self.turns, seed, RunStream.BALANCED_ORDER, int(c))
            for c in np.unique(targets)
        ]
        self.chunk = lru_cache(maxsize=4)(self.draw_chunk)

    def draw_chunk(self, number: int) -> np.ndarray:
        """The positions of `turns` turns: int64 [turns · K], K classes."""
        positions = np.stack([draw(number) for draw in self.classes], axis=1)
        generator = numpy_generator(self.seed, RunStream.TURN_ORDER, number)
        return generator.permuted(positions, axis=1).reshape(-1)

    def __call__(self, step: int) -> np.ndarray:
        """The positions of a step: int64 [batch]."""
        size, start, stop = self.turns * len(self.classes), step * self.batch, (step + 1) * self.batch
        chunks = range(start // size, (stop - 1) // size + 1)
        first = start - chunks[0] * size
        return np.concatenate([self.chunk(number) for number in chunks])[first : first + self.batch]


class ImageStore:
    """The images of one part. Mode `device` copies all of them to the device; `mmap` reads each batch on demand.

    pixels: uint8 [N, C, H, W]. Reading a memory-mapped file does not add to the resident memory of this process.
    """

    def __init__(self, pixels: np.ndarray, device: torch.device, mode: str):
        self.device, self.mode, self.read, self.count = device, mode, make_reader(pixels), len(pixels)
        if mode == "device":
            self.pixels = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, self.count, 1024):
                images = self.read(np.arange(start, min(start + 1024, self.count)))
                self.pixels[start : start + len(images)] = torch.from_numpy(images)

    def __len__(self) -> int:
        return self.count

    def take(self, index: np.ndarray) -> RawBatch:
        """The images at the positions `index`, int64 [B]."""
        on_device = to_device(torch.from_numpy(index), self.device)
        if self.mode == "device":
            return RawBatch(on_device, self.pixels.index_select(0, on_device))
        return RawBatch(on_device, to_device(torch.from_numpy(self.read(index)), self.device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device; on a GPU asynchronously, from pinned memory and in stream order.

    The pinned memory may be released at once: PyTorch's allocator reuses it only after the copy is complete.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def choose_storage(mode: str, pixels: np.ndarray, free_bytes: int) -> str:
    """`auto` becomes `device` if the images take at most half of the free memory, and `mmap` otherwise.

    Raises UserError for `device` if the images do not fit into the free memory.
    """
    if mode == "device" and pixels.nbytes > free_bytes:
        raise UserError(
            f"dataset.storage=device: the training images take {pixels.nbytes / 2**30:.1f} GiB, "
            f"but {free_bytes / 2**30:.1f} GiB of memory are free; use dataset.storage=mmap"
        )
    return mode if mode != "auto" else "device" if pixels.nbytes * 2 <= free_bytes else "mmap"


class Loader:
    """`loader(step)` returns the labeled and the unlabeled images of a step; None if `unlabeled_batch` is 0.

    The images depend on (seed, step) only, whatever the storage. With storage `mmap`, a thread prefetches the next
    step's batch: it reads it, pins it and copies it to the device. balanced: whether all classes are equally frequent
    among the labeled images of the steps; otherwise each labeled image is.
    Raises UserError if there are no unlabeled images to fill `unlabeled_batch`.
    """

    def __init__(
        self,
        *,
        train: Images,
        split: Split,
        labeled_batch: int,
        unlabeled_batch: int,
        seed: int,
        storage: ImageStore,
        balanced: bool = False,
    ):
        if unlabeled_batch and not len(split.unlabeled):
            raise UserError(
                "no unlabeled images are left; use dataset.labeled_in_unlabeled=true, fewer labels or method=supervised"
            )
        self.storage, self.image_names = storage, train.names
        self.labeled: EpochSampler | BalancedSampler
        if balanced:
            self.labeled = BalancedSampler(split.labeled, train.targets[split.labeled], labeled_batch, seed)
        else:
            self.labeled = EpochSampler(split.labeled, labeled_batch, seed, RunStream.LABELED_ORDER)
        self.unlabeled = None
        if unlabeled_batch:
            self.unlabeled = EpochSampler(split.unlabeled, unlabeled_batch, seed, RunStream.UNLABELED_ORDER)
        self.targets = torch.from_numpy(train.targets).to(storage.device)
        self.hidden_targets = self.targets.index_fill(0, torch.from_numpy(split.labeled).to(storage.device), -1)
        self.executor = ThreadPoolExecutor(1) if storage.mode == "mmap" else None
        self.prefetched: tuple[int, Future] | None = None

    def __call__(self, step: int) -> tuple[RawBatch, RawBatch | None]:
        if self.executor is None:
            return self.read(step)
        hit = self.prefetched is not None and self.prefetched[0] == step
        batch = self.prefetched[1].result() if hit else self.read(step)
        self.prefetched = (step + 1, self.executor.submit(self.read, step + 1))
        return batch

    def read(self, step: int) -> tuple[RawBatch, RawBatch | None]:
        """Read the images of a step now."""
        unlabeled = self.storage.take(self.unlabeled(step)) if self.unlabeled else None
        return self.storage.take(self.labeled(step)), unlabeled

    def names(self, step: int) -> dict[str, list[str]]:
        """The names of the labeled and the unlabeled images of a step, under `labeled` and `unlabeled`."""
        samplers = {"labeled": self.labeled} | ({"unlabeled": self.unlabeled} if self.unlabeled else {})
        return {part: [self.image_names[i] for i in sampler(step)] for part, sampler in samplers.items()}

    def images_per_step(self) -> int:
        """The number of labeled and unlabeled images in a step."""
        return self.labeled.batch + (self.unlabeled.batch if self.unlabeled else 0)

    def target(self, index: Tensor) -> Tensor:
        """The targets of the images at the positions `index`: int64 [B] on the device."""
        return self.targets[index]

    def hidden_target(self, index: Tensor) -> Tensor:
        """The same as `target`, but −1 for labeled images. For scoring only: never passed to a method."""
        return self.hidden_targets[index]

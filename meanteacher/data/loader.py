"""Batches as a pure function of (seed, step): uint8 images on the device, from a resident copy or a memory map."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.data import Images
from meanteacher.data.cache import reader
from meanteacher.data.splits import Split

LABELED, UNLABELED = 1, 2


class RawBatch(NamedTuple):
    """index: int64 [B], positions in the training part; pixels: uint8 [B, C, H, W]; both on the device."""

    index: Tensor
    pixels: Tensor


class EpochSampler:
    """An endless sequence of positions: the pool in a new random order each epoch, cut into batches."""

    def __init__(self, pool: np.ndarray, batch: int, seed: int, key: int):
        self.pool, self.batch = pool, batch
        self.order = lru_cache(maxsize=4)(lambda epoch: np.random.default_rng([seed, key, epoch]).permutation(pool))

    def __call__(self, step: int) -> np.ndarray:
        """Positions of step `step`: int64 [batch]."""
        taken, start = [], step * self.batch
        while start < (step + 1) * self.batch:
            epoch, offset = divmod(start, len(self.pool))
            taken.append(self.order(epoch)[offset : offset + (step + 1) * self.batch - start])
            start += len(taken[-1])
        return np.concatenate(taken)


class ImageStore:
    """The images of one part: `device` copies them all there, `mmap` reads each batch from the array or file on demand.

    pixels: uint8 [N, C, H, W]. Reading leaves nothing of a memory-mapped file behind in this process's memory.
    """

    def __init__(self, pixels: np.ndarray, device: torch.device, mode: str):
        self.device, self.mode, self.read, self.count = device, mode, reader(pixels), len(pixels)
        if mode == "device":
            self.pixels = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, self.count, 1024):
                images = self.read(np.arange(start, min(start + 1024, self.count)))
                self.pixels[start : start + len(images)] = torch.from_numpy(images)

    def __len__(self) -> int:
        return self.count

    def take(self, index: np.ndarray) -> RawBatch:
        on_device = to_device(torch.from_numpy(index), self.device)
        if self.mode == "device":
            return RawBatch(on_device, self.pixels.index_select(0, on_device))
        return RawBatch(on_device, to_device(torch.from_numpy(self.read(index)), self.device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """On a GPU the host waits for nothing: the copy runs from pinned memory, in the order of the stream.

    The pinned memory may be dropped at once, as PyTorch's allocator hands it out again only when the copy is done.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def choose_storage(mode: str, pixels: np.ndarray, free_bytes: int) -> str:
    """`auto` becomes `device` where the images take at most half of the free memory, else `mmap`."""
    return mode if mode != "auto" else "device" if pixels.nbytes * 2 <= free_bytes else "mmap"


class Loader:
    """`loader(step)` gives (labeled, unlabeled) of a step; unlabeled is None where `unlabeled_batch` is 0.

    Nothing but (seed, step) decides, whatever the storage. A memory-mapped batch is read, pinned and sent to the device
    one step ahead in a thread.
    """

    def __init__(
        self, *, train: Images, split: Split, labeled_batch: int, unlabeled_batch: int, seed: int, storage: ImageStore
    ):
        if unlabeled_batch and not len(split.unlabeled):
            raise UserError(
                "no unlabeled images are left; use dataset.labeled_in_unlabeled=true, fewer labels or method=supervised"
            )
        self.storage = storage
        self.labeled = EpochSampler(split.labeled, labeled_batch, seed, LABELED)
        self.unlabeled = EpochSampler(split.unlabeled, unlabeled_batch, seed, UNLABELED) if unlabeled_batch else None
        self.targets = torch.from_numpy(train.targets).to(storage.device)
        self.ahead = ThreadPoolExecutor(1) if storage.mode == "mmap" else None
        self.next: tuple[int, Future] | None = None

    def __call__(self, step: int) -> tuple[RawBatch, RawBatch | None]:
        if self.ahead is None:
            return self.read(step)
        ready = self.next[1].result() if self.next and self.next[0] == step else self.read(step)
        self.next = (step + 1, self.ahead.submit(self.read, step + 1))
        return ready

    def read(self, step: int) -> tuple[RawBatch, RawBatch | None]:
        unlabeled = self.storage.take(self.unlabeled(step)) if self.unlabeled else None
        return self.storage.take(self.labeled(step)), unlabeled

    def images_per_step(self) -> int:
        """The student's images: labeled plus unlabeled."""
        return self.labeled.batch + (self.unlabeled.batch if self.unlabeled else 0)

    def target(self, index: Tensor) -> Tensor:
        return self.targets[index]

"""Batches: a pure function of (seed, step), every image once an epoch, the same from every storage."""

import numpy as np
import pytest
import torch

from meanteacher.data import splits
from meanteacher.data.loader import Loader, Storage, Stream, choose_storage
from meanteacher.errors import UserError

CPU = torch.device("cpu")


def loader(blobs, mode="device", unlabeled_batch=16, seed=0, pixels=None, label=10, shared=True):
    split = splits.draw(blobs, label=label, split_seed=0, validation=0, labeled_in_unlabeled=shared)
    storage = Storage(blobs.train.pixels if pixels is None else pixels, CPU, mode)
    return Loader(
        train=blobs.train, split=split, labeled_batch=8, unlabeled_batch=unlabeled_batch, seed=seed, storage=storage
    )


@pytest.mark.parametrize(("pool", "batch"), [(20, 64), (50, 8), (7, 7), (1, 3)])
def test_every_image_comes_once_an_epoch(pool, batch):
    stream = Stream(np.arange(pool) + 100, batch, seed=3, key=1)
    drawn = np.concatenate([stream(step) for step in range(3 * pool)])
    for epoch in range(len(drawn) // pool):
        assert sorted(drawn[epoch * pool : (epoch + 1) * pool]) == list(range(100, 100 + pool))


def test_a_batch_depends_on_seed_and_step_alone(blobs):
    first, second = loader(blobs), loader(blobs)
    for step in (0, 1, 2):
        first(step)
    for raw, again in zip(first(7), second(7), strict=True):
        assert torch.equal(raw.index, again.index) and torch.equal(raw.pixels, again.pixels)
    assert not torch.equal(first(7)[1].index, first(8)[1].index)
    assert not torch.equal(first(7)[1].index, loader(blobs, seed=1)(7)[1].index)


def test_a_memory_map_gives_the_resident_batches(blobs, tmp_path):
    np.save(tmp_path / "pixels.npy", blobs.train.pixels)
    mapped = loader(blobs, "mmap", pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    resident = loader(blobs)
    for step in (0, 1, 2, 9, 10, 4):
        for raw, again in zip(mapped(step), resident(step), strict=True):
            assert torch.equal(raw.index, again.index) and torch.equal(raw.pixels, again.pixels)


def test_pixels_and_targets_belong_to_the_index(blobs):
    one = loader(blobs)
    labeled, unlabeled = one(5)
    for raw in (labeled, unlabeled):
        assert np.array_equal(raw.pixels.numpy(), blobs.train.pixels[raw.index.numpy()])
    assert np.array_equal(one.target(labeled.index).numpy(), blobs.train.targets[labeled.index.numpy()])


def test_without_unlabeled_images(blobs):
    one = loader(blobs, unlabeled_batch=0)
    assert one(0)[1] is None and one.images_per_step() == 8
    with pytest.raises(UserError, match="no unlabeled images"):
        loader(blobs, label="all", shared=False)


def test_auto_storage_keeps_half_of_the_memory_free():
    pixels = np.zeros((10, 10), np.uint8)
    assert [choose_storage("auto", pixels, free) for free in (200, 199)] == ["device", "mmap"]
    assert choose_storage("mmap", pixels, 10**9) == "mmap"

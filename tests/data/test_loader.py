"""Batches are a pure function of (seed, step), visit every image once per epoch, and do not depend on the storage."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from meanteacher.config.errors import UserError
from meanteacher.data import Images, splits
from meanteacher.data.augment import Normalize
from meanteacher.data.cache import make_reader
from meanteacher.data.loader import BalancedSampler, EpochSampler, ImageStore, Loader, choose_storage
from meanteacher.data.random_streams import RunStream

CPU = torch.device("cpu")


def loader(blobs, mode="device", unlabeled_batch=16, seed=0, pixels=None, label=10, shared=True, balanced=False):
    split = splits.draw(blobs, label=label, split_seed=0, validation=0, labeled_in_unlabeled=shared)
    storage = ImageStore(blobs.train.pixels if pixels is None else pixels, CPU, mode)
    return Loader(
        train=blobs.train,
        split=split,
        labeled_batch=8,
        unlabeled_batch=unlabeled_batch,
        seed=seed,
        storage=storage,
        balanced=balanced,
    )


@pytest.mark.parametrize(("pool", "batch"), [(20, 64), (50, 8), (7, 7), (1, 3)])
def test_every_image_is_drawn_once_per_epoch(pool, batch):
    sampler = EpochSampler(np.arange(pool) + 100, batch, seed=3, stream=RunStream.LABELED_ORDER)
    drawn = np.concatenate([sampler(step) for step in range(3 * pool)])
    for epoch in range(len(drawn) // pool):
        assert sorted(drawn[epoch * pool : (epoch + 1) * pool]) == list(range(100, 100 + pool))


@pytest.mark.parametrize(("sizes", "batch"), [((100, 1, 12), 7), ((5, 5), 64), ((3, 0, 2, 4), 2), ((8,), 3)])
def test_balanced_batches_draw_every_class_equally_often(sizes, batch):
    """Every class gives one image per turn, and all of its images before it repeats one."""
    targets = np.repeat(np.arange(len(sizes)), sizes)
    pool, classes = np.random.default_rng(0).permutation(len(targets)), np.count_nonzero(sizes)
    sampler = BalancedSampler(pool, targets[pool], batch, seed=3)
    batches = [sampler(step) for step in range(2400 // batch)]
    drawn = targets[stream := np.concatenate(batches)]
    turns = drawn[: len(drawn) // classes * classes].reshape(-1, classes)
    np.testing.assert_array_equal(np.sort(turns, axis=1), np.tile(np.flatnonzero(sizes), (len(turns), 1)))
    for c, size in enumerate(sizes):
        images = stream[drawn == c]
        for start in range(0, len(images) - size + 1, max(1, size)):
            assert sorted(images[start : start + size]) == np.flatnonzero(targets == c).tolist()
    fresh = BalancedSampler(pool, targets[pool], batch, seed=3)
    for step in (len(batches) - 1, 0, len(batches) // 2):
        np.testing.assert_array_equal(fresh(step), batches[step])
    other = BalancedSampler(pool, targets[pool], batch, seed=4)
    assert len(pool) < 9 or not np.array_equal(other(0), batches[0])


def test_balanced_classes_of_one_size_are_not_paired():
    """Otherwise, the same images of two classes would meet in every turn."""
    sampler = BalancedSampler(np.arange(40), np.repeat([0, 1], 20), batch=40, seed=0)
    pairs = {tuple(np.sort(pair) % 20) for step in range(20) for pair in sampler(step).reshape(-1, 2)}
    assert len(pairs) > 200
    firsts = np.concatenate([sampler(step)[::2] >= 20 for step in range(20)])
    assert 0.4 < firsts.mean() < 0.6


def test_balanced_sampling_changes_the_labeled_images_alone(blobs):
    natural, balanced = loader(blobs), loader(blobs, balanced=True)
    assert torch.equal(natural(3)[1].index, balanced(3)[1].index)
    assert not torch.equal(natural(3)[0].index, balanced(3)[0].index)
    assert np.bincount(blobs.train.targets[balanced(3)[0].index], minlength=4).tolist() == [2, 2, 2, 2]


def test_a_batch_depends_on_seed_and_step_only(blobs):
    first, second = loader(blobs), loader(blobs)
    for step in (0, 1, 2):
        first(step)
    for raw, other in zip(first(7), second(7), strict=True):
        assert torch.equal(raw.index, other.index) and torch.equal(raw.pixels, other.pixels)
    assert not torch.equal(first(7)[1].index, first(8)[1].index)
    assert not torch.equal(first(7)[1].index, loader(blobs, seed=1)(7)[1].index)


def test_memory_mapped_and_resident_batches_are_equal(blobs, tmp_path):
    np.save(tmp_path / "pixels.npy", blobs.train.pixels)
    mapped = loader(blobs, "mmap", pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    resident = loader(blobs)
    for step in (0, 1, 2, 9, 10, 4):
        for raw, other in zip(mapped(step), resident(step), strict=True):
            assert torch.equal(raw.index, other.index) and torch.equal(raw.pixels, other.pixels)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [slice(None), slice(20, 180), slice(20, 180, 2)], ids=["whole", "part", "every other"])
def test_reading_a_file_equals_indexing_its_map(blobs, tmp_path, order, rows):
    np.save(tmp_path / "pixels.npy", np.asarray(blobs.train.pixels, order=order))
    pixels, index = np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.array([3, 0, 79, 3])
    pixels = pixels if rows == slice(None) else pixels[rows]
    np.testing.assert_array_equal(make_reader(pixels)(index), blobs.train.pixels[rows][index])
    np.testing.assert_array_equal(ImageStore(pixels, CPU, "device").pixels, blobs.train.pixels[rows])


def test_a_resident_copy_is_complete():
    pixels = np.random.default_rng(0).integers(1, 256, (2500, 1, 2, 2), np.uint8)
    np.testing.assert_array_equal(ImageStore(pixels, CPU, "device").pixels, pixels)


def test_a_truncated_file_raises(blobs, tmp_path):
    np.save(tmp_path / "pixels.npy", blobs.train.pixels)
    storage = ImageStore(np.load(tmp_path / "pixels.npy", mmap_mode="r"), CPU, "mmap")
    with (tmp_path / "pixels.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError):
        storage.take(np.array([199]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts resident memory as Linux does")
def test_reading_a_memory_map_does_not_grow_resident_memory(tmp_path):
    count, shape = 65_536, (3, 32, 32)
    np.lib.format.open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=(count, *shape))[0] = 200
    pixels, targets = np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.zeros(count, np.int64)
    train = Images(pixels=pixels, targets=targets, names=[])
    positions = np.arange(count)
    split = splits.Split(labeled=positions[:10], unlabeled=positions, validation=positions[:0])
    storage, process = ImageStore(pixels, CPU, "mmap"), psutil.Process()
    batches = Loader(train=train, split=split, labeled_batch=8, unlabeled_batch=512, seed=0, storage=storage)
    before = process.memory_info().rss
    for step in range(2 * count // 512):
        batches(step)
    for start in range(0, count, 1000):
        storage.take(positions[start : start + 1000])
    Normalize().fit(pixels)
    assert process.memory_info().rss - before < 60e6


def test_pixels_and_targets_belong_to_the_index(blobs):
    batches = loader(blobs)
    labeled, unlabeled = batches(5)
    for raw in (labeled, unlabeled):
        assert np.array_equal(raw.pixels.numpy(), blobs.train.pixels[raw.index.numpy()])
    assert np.array_equal(batches.target(labeled.index).numpy(), blobs.train.targets[labeled.index.numpy()])


def test_without_unlabeled_images(blobs):
    batches = loader(blobs, unlabeled_batch=0)
    assert batches(0)[1] is None and batches.images_per_step() == 8
    with pytest.raises(UserError, match="no unlabeled images"):
        loader(blobs, label="all", shared=False)


def test_auto_storage_keeps_half_of_the_memory_free():
    pixels = np.zeros((10, 10), np.uint8)
    assert [choose_storage("auto", pixels, free) for free in (200, 199)] == ["device", "mmap"]
    assert choose_storage("mmap", pixels, 10**9) == "mmap"


def test_resident_storage_that_does_not_fit_is_refused():
    pixels = np.zeros((10, 10), np.uint8)
    assert choose_storage("device", pixels, 100) == "device"
    with pytest.raises(UserError, match="dataset.storage=device: .* use dataset.storage=mmap"):
        choose_storage("device", pixels, 99)

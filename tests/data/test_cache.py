"""The cache of decoded images."""

import errno
import json
import os
import threading
import time

import numpy as np
import pytest

from meanteacher.config.errors import UserError
from meanteacher.data import Dataset, Images
from meanteacher.data.cache import allocate, keep_rows, load_or_compute, load_or_decode, map_in_threads


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def small(folder, value=1):
    parts = {}
    for part, count in (("train", 4), ("test", 2)):
        array = allocate(folder=folder, part=part, shape=(count, 1, 2, 2))
        array[:] = value
        parts[part] = Images(pixels=array, targets=np.arange(count), names=[str(row) for row in range(count)])
    return Dataset(name="small", classes=["a", "b", "c", "d"], notes=["a note"], **parts)


def test_cache_round_trip_leaves_only_the_finished_folder(tmp_path):
    dataset = load_or_decode(directory=tmp_path, key="k", decode=small)
    assert dataset.notes == ["a note"] and dataset.train.targets.tolist() == [0, 1, 2, 3]
    assert dataset.test.pixels.tolist() == np.ones((2, 1, 2, 2)).tolist()
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == ["k"]


@pytest.mark.parametrize("name", ["train.npy", "test_targets.npy", "index.json", "test.npy"])
@pytest.mark.parametrize("damage", ["truncate", "delete", "garbage"])
def test_cache_is_rebuilt_when_incomplete_or_unreadable(tmp_path, name, damage):
    load_or_decode(directory=tmp_path, key="k", decode=small)
    path = tmp_path / "cache" / "k" / name
    if damage == "truncate":
        os.truncate(path, path.stat().st_size - 3)
    elif damage == "delete":
        path.unlink()
    else:
        path.write_bytes(b"garbage")
    rebuilt = load_or_decode(directory=tmp_path, key="k", decode=lambda folder: small(folder, value=2))
    assert rebuilt.train.pixels.max() == 2
    assert load_or_decode(directory=tmp_path, key="k", decode=None).train.pixels.max() == 2


@pytest.mark.parametrize(("name", "at"), [("train.npy", -1), ("train_targets.npy", -8), ("test.npy", -5)])
def test_cache_with_a_changed_value_is_rebuilt_with_a_warning(tmp_path, caplog, name, at):
    load_or_decode(directory=tmp_path, key="k", decode=small)
    path = tmp_path / "cache" / "k" / name
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert load_or_decode(directory=tmp_path, key="k", decode=lambda f: small(f, value=2)).train.pixels.max() == 2
    assert f"{path} is damaged; the images are read again" in caplog.text


def test_cache_with_inconsistent_parts_is_rebuilt(tmp_path):
    load_or_decode(directory=tmp_path, key="k", decode=small)
    os.replace(tmp_path / "cache" / "k" / "test.npy", tmp_path / "cache" / "k" / "train.npy")
    np.save(tmp_path / "cache" / "k" / "test.npy", np.zeros((2, 1, 2, 2), dtype=np.uint8))
    assert load_or_decode(directory=tmp_path, key="k", decode=small).train.pixels.shape == (4, 1, 2, 2)
    index = tmp_path / "cache" / "k" / "index.json"
    stored = json.loads(index.read_text())
    stored["names"]["train"].pop()
    index.write_text(json.dumps(stored))
    assert len(load_or_decode(directory=tmp_path, key="k", decode=small).train.names) == 4
    index.write_text(json.dumps({**stored, "format": 0}))
    assert len(load_or_decode(directory=tmp_path, key="k", decode=small).train.names) == 4


def test_failed_decoding_leaves_no_cache_and_an_interrupted_one_is_removed(tmp_path):
    def fails(folder):
        small(folder)
        raise UserError("no")

    with pytest.raises(UserError, match="^no$"):
        load_or_decode(directory=tmp_path, key="k", decode=fails)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    (tmp_path / "cache" / ".k.partial").mkdir()
    (tmp_path / "cache" / ".k.partial" / "train.npy").write_bytes(b"half")
    assert len(load_or_decode(directory=tmp_path, key="k", decode=small).train.names) == 4


def test_of_concurrent_processes_one_decodes_and_the_others_wait(tmp_path):
    decoded, results = [], []

    def slow(folder):
        decoded.append(folder)
        time.sleep(0.3)
        return small(folder)

    threads = [
        threading.Thread(target=lambda: results.append(load_or_decode(directory=tmp_path, key="k", decode=slow)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 1 and len(results) == 3
    assert all(result.train.pixels.max() == 1 for result in results)


def test_an_unwritable_data_dir_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(UserError) as error:
        load_or_decode(directory=blocked, key="k", decode=small)
    assert str(blocked) in one_line(error) and "data_dir" in one_line(error)
    with pytest.raises(UserError, match="data_dir"):
        load_or_compute(directory=blocked / "below", key="k", condition="c", compute=lambda: "v", store=True)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be reserved on this system")
def test_full_disk_is_reported_in_one_line(monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError) as error:
        load_or_decode(directory=tmp_path, key="k", decode=small)
    assert "No space left on device" in one_line(error) and str(tmp_path) in one_line(error)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_kept_rows_replace_the_file(tmp_path):
    pixels = allocate(folder=tmp_path, part="train", shape=(200, 1, 1, 1))
    pixels[:, 0, 0, 0] = np.arange(200)
    rows = np.setdiff1d(np.arange(200), [0, 63, 64, 199])
    kept = keep_rows(folder=tmp_path, part="train", pixels=pixels, rows=rows)
    kept.flush()
    assert [path.name for path in tmp_path.iterdir()] == ["train.npy"]
    for array in (kept, np.load(tmp_path / "train.npy")):
        np.testing.assert_array_equal(array.reshape(-1), rows)


def test_stored_text_is_reused_for_the_same_condition_only(tmp_path):
    def recall(condition, value, store=True):
        return load_or_compute(directory=tmp_path, key="k", condition=condition, compute=lambda: value, store=store)

    assert [recall("a", "1"), recall("a", "2"), recall("b", "3"), recall("b", "4")] == ["1", "1", "3", "3"]
    assert recall("c", "5", store=False) == "5" and recall("b", "6") == "3"
    (tmp_path / "cache" / "k").write_text("broken")
    assert recall("b", "7") == "7"


@pytest.mark.parametrize("nbytes", [0, 10**9])
def test_map_in_threads_keeps_the_order_and_raises_errors(nbytes):
    items = range(200)
    assert map_in_threads(function=str, items=items, nbytes=nbytes, title="t") == [str(item) for item in items]
    assert map_in_threads(function=str, items=[], nbytes=0, title="t") == []
    with pytest.raises(ZeroDivisionError):
        map_in_threads(function=lambda item: 1 / (item - 100), items=items, nbytes=nbytes, title="t")

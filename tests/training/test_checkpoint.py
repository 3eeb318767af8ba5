"""Checkpoints: damage of any kind is detected and told, and the last good one is used."""

import errno
import os
import random

import pytest
import torch

from meanteacher.config.errors import UserError
from meanteacher.training.checkpoint import CURRENT, PREVIOUS, TEMPORARY, Checkpoints

CPU = torch.device("cpu")


def state(step: int) -> dict:
    weights = torch.arange(1000.0) + step
    about = {"seconds": 1.0, "threads": 1, "device": "cpu", "precision": "fp32", "compiled": False, "method": {}}
    return about | {"optimizer": {}, "step": step, "weights": weights, "history": [{"step": step, "train/loss": 0.5}]}


@pytest.fixture
def checkpoints(tmp_path):
    saved = Checkpoints(tmp_path, "abc")
    saved.save(state(1))
    saved.save(state(2))
    return saved


def same(loaded: dict, step: int) -> bool:
    expected = state(step)
    weights = torch.equal(loaded["weights"], expected["weights"])
    return weights and all(loaded[k] == expected[k] for k in ("step", "history"))


def test_the_newest_checkpoint_is_loaded(checkpoints, caplog):
    assert same(checkpoints.load(CPU), 2) and not caplog.text
    assert Checkpoints(checkpoints.folder / "none", "abc").load(CPU) is None


def test_every_flipped_bit_and_truncation_is_detected_or_harmless(checkpoints, caplog):
    path, draw = checkpoints.folder / CURRENT, random.Random(0)
    content = path.read_bytes()
    damaged = []
    for _ in range(60):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    damaged += [content[: draw.randrange(len(content))] for _ in range(30)] + [b"", b"torn"]
    block = len(content) // 2
    damaged.append(content[:block] + bytes(512) + content[block + 512 :])
    detected = 0
    for bad in damaged:
        path.write_bytes(bad)
        caplog.clear()
        loaded = checkpoints.load(CPU)
        told = "checkpoint.pt is not used (" in caplog.text
        assert same(loaded, 1) if told else same(loaded, 2)
        detected += told
    assert detected > 80


def test_a_malicious_pickle_is_not_used(checkpoints, caplog, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hit"),)

    torch.save({"digest": "abc", "step": Payload()}, checkpoints.folder / CURRENT)
    assert same(checkpoints.load(CPU), 1) and "checkpoint.pt is not used" in caplog.text
    assert not (tmp_path / "hit").exists()


def test_another_runs_checkpoint_is_not_used(checkpoints, caplog):
    assert Checkpoints(checkpoints.folder, "xyz").load(CPU) is None
    assert caplog.text.count("it belongs to another run") == 2


@pytest.mark.parametrize("changes", [{"step": "x"}, {"history": None}, {"digest": None}, {"method": 3}])
def test_a_checkpoint_of_other_content_is_not_used(checkpoints, caplog, changes):
    torch.save(state(3) | {"digest": "abc"} | changes, checkpoints.folder / CURRENT)
    assert same(checkpoints.load(CPU), 1) and "checkpoint.pt is not used" in caplog.text


def test_two_damaged_checkpoints_are_both_told(checkpoints, caplog):
    for name in (CURRENT, PREVIOUS):
        (checkpoints.folder / name).write_bytes(b"")
    assert checkpoints.load(CPU) is None and caplog.text.count("is not used") == 2


def test_a_full_disk_is_told_in_one_line_and_keeps_the_checkpoints(checkpoints, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"checkpoint.pt: cannot be written \(No space left on device\); make room"):
        checkpoints.save(state(3))
    assert same(checkpoints.load(CPU), 2) and not (checkpoints.folder / TEMPORARY).exists()

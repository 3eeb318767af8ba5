"""Which device a run takes, where there are several and where there are none."""

import tempfile
from types import SimpleNamespace

import pytest
import torch

from meanteacher.config.errors import UserError
from meanteacher.training import device


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """As on a machine with two GPUs; forgetting `device.GPU_LOCKS` makes another process of this one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(device, "GPU_LOCKS", {})


def test_each_process_gets_a_gpu_of_its_own_and_keeps_it(two_gpus, monkeypatch):
    first = device.choose_device("free")
    assert first == device.choose_device("free") == torch.device("cuda", 0)
    kept, other = device.GPU_LOCKS, {}
    monkeypatch.setattr(device, "GPU_LOCKS", other)
    assert device.choose_device("free") == device.choose_device("free") == torch.device("cuda", 1)
    monkeypatch.setattr(device, "GPU_LOCKS", {})
    with pytest.raises(UserError, match="all 2 GPUs of this machine are in use; start at most 2 runs at a time"):
        device.choose_device("free")
    kept[0].release()
    assert device.choose_device("free") == first
    device.GPU_LOCKS[0].release(), other[1].release()


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="trainer.device=cuda: not available on this machine; use trainer.device="):
        device.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="this machine has no GPU"):
        device.choose_device("free")

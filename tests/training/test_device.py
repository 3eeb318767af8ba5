"""The choice of the device on machines with several GPUs and with none, and whether steps are compiled on it."""

import tempfile
from types import SimpleNamespace

import pytest
import torch

from meanteacher.config.errors import UserError
from meanteacher.training import device


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Imitates a machine with two GPUs. An empty `device.GPU_LOCKS` imitates another process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(device, "GPU_LOCKS", {})


def test_each_process_gets_its_own_gpu_and_keeps_it(two_gpus, monkeypatch):
    first = device.choose_device("free")
    assert first == device.choose_device("free") == torch.device("cuda", 0)
    first_locks, second_locks = device.GPU_LOCKS, {}
    monkeypatch.setattr(device, "GPU_LOCKS", second_locks)
    assert device.choose_device("free") == device.choose_device("free") == torch.device("cuda", 1)
    monkeypatch.setattr(device, "GPU_LOCKS", {})
    with pytest.raises(UserError, match="all 2 GPUs of this machine are in use; start at most 2 runs at a time"):
        device.choose_device("free")
    first_locks[0].release()
    assert device.choose_device("free") == first
    device.GPU_LOCKS[0].release(), second_locks[1].release()


def test_a_device_that_is_not_available_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="trainer.device=cuda: not available on this machine; use trainer.device="):
        device.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="this machine has no GPU"):
        device.choose_device("free")


def test_auto_compiles_long_runs_on_a_gpu():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    choose = device.choose_compile
    assert choose("auto", gpu, 2000) and not choose("auto", gpu, 1999) and not choose("auto", cpu, 10**6)
    assert choose("always", cpu, 1) and not choose("never", gpu, 10**6)

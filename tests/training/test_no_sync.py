"""A training step does not make the host wait for the device, and creates no tensor on the host."""

import pytest
import torch
from conftest import options
from small_steps import open_step
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SYNCS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class NoSync(TorchDispatchMode):
    """Raises AssertionError at an operation that makes the host wait for a value or a value-dependent shape."""

    def __enter__(self):
        def refuse(*args, **kwargs):
            raise AssertionError("the host waits for the device")

        self.patch = pytest.MonkeyPatch()
        for name in ("cpu", "numpy", "tolist", "item"):
            self.patch.setattr(torch.Tensor, name, refuse)
        return super().__enter__()

    def __exit__(self, *details):
        self.patch.undo()
        return super().__exit__(*details)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        mask = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in tree_leaves(args[1:2])
        )
        if mask or name.startswith(SYNCS):
            raise AssertionError(f"{name}: the host waits for the device")
        return function(*args, **(kwargs or {}))


class OnDevice(TorchFunctionMode):
    """Raises AssertionError if a tensor is created without a `device`: with a GPU it would have to be copied there."""

    FACTORIES = [torch.arange, torch.empty, torch.full, torch.ones, torch.rand, torch.randint, torch.randn, torch.zeros]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.FACTORIES and "device" not in (kwargs or {}):
            raise AssertionError(f"{function.__name__}: created on the host")
        return function(*args, **(kwargs or {}))


def test_no_sync_detects_what_waits_for_the_device():
    values = torch.arange(3.0)
    for read in (
        lambda: values.sum().item(),
        lambda: values[values > 1],
        lambda: bool(values[0]),
        lambda: values.cpu(),
    ):
        with pytest.raises(AssertionError, match="waits"), NoSync():
            read()


@pytest.mark.parametrize("optimizer", options("optimizer"))
@pytest.mark.parametrize("method", options("method"))
def test_a_step_does_not_synchronize(method, optimizer, tmp_path):
    with open_step(tmp_path / "run", f"method={method}", f"optimizer={optimizer}", "schedule=cosine") as train_step:
        train_step(0)
        with NoSync():
            train_step(1)


@pytest.mark.gpu
def test_a_step_does_not_synchronize_on_a_gpu(tmp_path):
    with open_step(tmp_path / "run", "trainer.device=cuda") as train_step:
        train_step(0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", [*options("method"), "mixmatch method.passes=interleaved"])
def test_a_step_creates_no_tensor_on_the_host(method, tmp_path):
    with open_step(tmp_path / "run", *f"method={method}".split()) as train_step:
        train_step(0)
        labeled, unlabeled = train_step.batches.draw(1)
        with OnDevice():
            with pytest.raises(AssertionError, match="created on the host"):
                torch.arange(3)
            train_step.compute(torch.full((), 1.0, device="cpu"), *labeled, *unlabeled)

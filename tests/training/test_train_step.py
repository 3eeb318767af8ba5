"""The step: nothing is read back from the device in it, compiled or captured it computes what it computes eagerly."""

import copy
from contextlib import contextmanager

import pytest
import torch
from conftest import options, parsed
from torch.utils._python_dispatch import TorchDispatchMode

from meanteacher.config.settings import Choices
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training import cuda_graph, device
from meanteacher.training.cuda_graph import EAGER_CALLS, CUDAGraphStep

SYNCS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
SMALL = ("experiment=quickstart", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8", "logger=jsonl")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class NoSync(TorchDispatchMode):
    """Raises at an operation whose result the host must wait for: a value, or a shape that depends on values."""

    def __enter__(self):
        def refuse(*args, **kwargs):
            raise AssertionError("this waits for the device")

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
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in flat(args[1:2])
        )
        if mask or name.startswith(SYNCS):
            raise AssertionError(f"{name} waits for the device")
        return function(*args, **(kwargs or {}))


def flat(values):
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        else:
            yield value


@contextmanager
def step(folder, *overrides):
    chosen = parsed(*SMALL, *overrides)
    with RunDir(folder, "", False) as kept:
        found = Session(chosen, Choices(), kept, show_progress=False).trainer.train_step
        found.method.train()
        yield found


def trained(folder, count, *overrides):
    with step(folder, *overrides) as one:
        for k in range(count):
            one(k)
        return one.state_dict()


def test_the_watch_sees_what_waits():
    values = torch.arange(3.0)
    for work in (
        lambda: values.sum().item(),
        lambda: values[values > 1],
        lambda: bool(values[0]),
        lambda: values.cpu(),
    ):
        with pytest.raises(AssertionError, match="waits"), NoSync():
            work()


@pytest.mark.parametrize("optimizer", options("optimizer"))
@pytest.mark.parametrize("method", options("method"))
def test_a_step_reads_nothing_back(method, optimizer, tmp_path):
    with step(tmp_path / "run", f"method={method}", f"optimizer={optimizer}", "schedule=cosine") as one:
        one(0)
        with NoSync():
            one(1)


@pytest.mark.parametrize("method", options("method"))
def test_a_compiled_loss_is_the_eager_one(method, tmp_path):
    same = (f"method={method}", "trainer.precision=fp32", "model.dropout=0.3")
    device.prepare(torch.device("cpu"), compiled=True)
    with step(tmp_path / "run", *same) as one:
        eager = one.loss_and_metrics
        compiled = torch.compile(eager, fullgraph=one.method.fullgraph, backend="aot_eager")
        labeled, unlabeled = one.batches.views(*one.batches.draw(3), one.method.views)
        losses, state = [], copy.deepcopy(one.method.state_dict())
        for step_function in (eager, compiled):
            one.method.load_state_dict(state)
            torch.manual_seed(0)
            losses.append(step_function(labeled, unlabeled, torch.tensor(3.0))[0])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", options("method"))
def test_compiled_steps_are_the_eager_ones(method, tmp_path):
    """Each from the same weights: over several steps of an untrained network rounding grows tenfold at each."""
    same = (f"method={method}", "trainer.precision=fp32")
    with step(tmp_path / "eager", *same, "trainer.compile=never") as eager:
        states = [copy.deepcopy(eager.method.state_dict())]
        for k in range(3):
            eager(k)
            states.append(copy.deepcopy(eager.method.state_dict()))
    with step(tmp_path / "compiled", *same, "trainer.compile=always") as compiled:
        for k in range(3):
            compiled.method.load_state_dict(states[k])
            compiled(k)
            for name, value in compiled.method.state_dict().items():
                torch.testing.assert_close(value, states[k + 1][name], rtol=1e-3, atol=3e-4)


def test_the_teacher_follows_after_the_optimizers_step(tmp_path):
    with step(tmp_path / "run", "method=mean_teacher", "optimizer.lr=0.1") as one:
        before = one.method.student.classifier.weight.detach().clone()
        one(0)
        student, teacher = one.method.student.classifier.weight, one.method.teacher.model.classifier.weight
    assert not torch.equal(student, before)
    torch.testing.assert_close(teacher, (before + student) / 2)


@pytest.mark.parametrize("method", options("method"))
def test_the_sums_of_metrics_keep_no_graph(method, tmp_path):
    with step(tmp_path / "run", f"method={method}") as one:
        one(0)
        assert not any(total.requires_grad for total in one.meter.sums.values())


def test_the_learning_rate_is_that_of_the_schedule(tmp_path):
    with step(tmp_path / "run", "steps=4", "schedule=cosine", "optimizer.lr=0.1") as one:
        for k, expected in enumerate((1, 0.8535534, 0.5, 0.1464466)):
            one(k)
            for group in one.optimizer.param_groups:
                assert group["lr"].item() == pytest.approx(0.1 * expected)


def test_the_augmentation_is_drawn_anew_at_each_step_and_again_at_the_same(tmp_path):
    with step(tmp_path / "run") as one:
        raw, found = one.batches.draw(3), []
        for k in (3, 4, 3):
            one.batches.draw(k)  # seeds the views
            found.append(one.batches.views(*raw, one.method.views)[1].views)
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))


def test_compiling_is_chosen_where_it_pays():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    choose = device.choose_compile
    assert choose("auto", gpu, 2000) and not choose("auto", gpu, 1999) and not choose("auto", cpu, 10**6)
    assert choose("always", cpu, 1) and not choose("never", gpu, 10**6)


class Recorded:
    """Stands in for a CUDA graph: a replay runs the captured function again on the captured tensors."""

    last = None

    def __init__(self):
        self.work, self.generators, Recorded.last = lambda: None, [], self

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        self.work()


@pytest.fixture
def no_cuda(monkeypatch):
    """The part of torch.cuda that `CUDAGraphStep` uses, without a GPU; a capture runs nothing, as on a GPU."""

    @contextmanager
    def nothing(*args, **kwargs):
        yield

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "graph", nothing)


def test_a_graph_is_captured_once_and_replayed_with_new_values(no_cuda):
    seen, generator = [], torch.Generator()
    one = CUDAGraphStep(lambda x, y: seen.append((x.item(), len(y), id(x))), [generator])
    for k in range(EAGER_CALLS):
        one(torch.tensor(k), torch.zeros(0))
    assert [x for x, *_ in seen] == list(range(EAGER_CALLS)) and one.graph is None
    one(torch.tensor(EAGER_CALLS), torch.zeros(0))
    assert one.graph is Recorded.last and one.graph.generators == [generator]
    one.graph.work = lambda: one.function(*one.inputs)
    for k in (70, 80):
        one(torch.tensor(k), torch.zeros(0))
    assert [x for x, *_ in seen[-2:]] == [70, 80] and seen[-1][2] == seen[-2][2], "the graph's own inputs"
    assert Recorded.last is one.graph


def test_a_failed_capture_is_said_and_the_steps_go_on(no_cuda, monkeypatch, caplog):
    @contextmanager
    def refuse(*args, **kwargs):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    monkeypatch.setattr(cuda_graph.torch.cuda, "graph", refuse)
    seen = []
    one = CUDAGraphStep(lambda x: seen.append(x.item()), [])
    for k in range(EAGER_CALLS + 3):
        one(torch.tensor(k))
    assert seen == list(range(EAGER_CALLS + 3))
    assert caplog.text.count("cannot be captured") == 1 and "more" not in caplog.text


@cuda
@pytest.mark.parametrize("method", options("method"))
def test_a_graph_gives_the_bits_of_the_steps_it_replaces(method, tmp_path, monkeypatch):
    same = (f"method={method}", "trainer.device=cuda", "trainer.compile=always", "model.dropout=0.3")
    replayed = trained(tmp_path / "graph", EAGER_CALLS + 4, *same)
    monkeypatch.setattr(cuda_graph, "EAGER_CALLS", 10**9)
    launched = trained(tmp_path / "launched", EAGER_CALLS + 4, *same)
    assert all(torch.equal(launched["method"][name], value) for name, value in replayed["method"].items())


@cuda
def test_a_step_on_a_gpu_does_not_synchronize(tmp_path):
    with step(tmp_path / "run", "trainer.device=cuda") as one:
        one(0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            one(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")

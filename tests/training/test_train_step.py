"""A training step does not synchronize with the device, and gives the same results compiled or captured as eagerly."""

import copy
from contextlib import contextmanager

import pytest
import torch
from conftest import options, parsed
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from meanteacher.config.settings import Choices
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training import cuda_graph, device
from meanteacher.training.cuda_graph import EAGER_CALLS, CUDAGraphStep

SYNCS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
SMALL = ("experiment=quickstart", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8", "logger=jsonl")


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


@contextmanager
def open_step(folder, *overrides):
    """The train step of a run with small batches."""
    with RunDir(folder, "", False) as run_dir:
        yield Session(parsed(*SMALL, *overrides), Choices(), run_dir, show_progress=False).trainer.train_step


def train_steps(folder, count, *overrides):
    """The state after the first `count` steps."""
    with open_step(folder, *overrides) as train_step:
        for number in range(count):
            train_step(number)
        return train_step.state_dict()


def test_no_sync_detects_what_waits_for_the_device():
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
def test_a_step_does_not_synchronize(method, optimizer, tmp_path):
    with open_step(tmp_path / "run", f"method={method}", f"optimizer={optimizer}", "schedule=cosine") as train_step:
        train_step(0)
        with NoSync():
            train_step(1)


class OnDevice(TorchFunctionMode):
    """Raises AssertionError if a tensor is created without naming its device: on a GPU it would have to be copied."""

    FACTORIES = [torch.arange, torch.empty, torch.full, torch.ones, torch.rand, torch.randint, torch.randn, torch.zeros]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.FACTORIES and "device" not in (kwargs or {}):
            raise AssertionError(f"{function.__name__}: created on the host")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", [*options("method"), "mixmatch method.passes=interleaved"])
def test_a_step_creates_no_tensor_on_the_host(method, tmp_path):
    with open_step(tmp_path / "run", *f"method={method}".split()) as train_step:
        train_step(0)
        labeled, unlabeled = train_step.batches.draw(1)
        with OnDevice():
            with pytest.raises(AssertionError, match="created on the host"):
                torch.arange(3)
            train_step.compute(torch.full((), 1.0, device="cpu"), *labeled, *unlabeled)


@pytest.mark.parametrize("method", options("method"))
def test_a_compiled_loss_equals_the_eager_loss(method, tmp_path):
    same = (f"method={method}", "trainer.precision=fp32", "model.dropout=0.3")
    device.prepare(torch.device("cpu"), compiled=True)
    with open_step(tmp_path / "run", *same) as train_step:
        eager = train_step.loss_and_metrics
        compiled = torch.compile(eager, fullgraph=train_step.method.fullgraph, backend="aot_eager")
        labeled, unlabeled = train_step.batches.views(*train_step.batches.draw(3), train_step.method.views)
        losses, state = [], copy.deepcopy(train_step.method.state_dict())
        for step_function in (eager, compiled):
            train_step.method.load_state_dict(state)
            torch.manual_seed(0)
            losses.append(step_function(labeled, unlabeled, torch.tensor(3.0))[0])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", options("method"))
def test_compiled_steps_equal_eager_steps(method, tmp_path):
    """Each step starts from the same weights: in an untrained network, rounding errors grow tenfold per step.

    The activation is smooth: a rounding error at the kink of LeakyReLU changes a gradient by more than the tolerance.
    """
    same = (f"method={method}", "trainer.precision=fp32", "model.activation=mish")
    with open_step(tmp_path / "eager", *same, "trainer.compile=never") as eager:
        states = [copy.deepcopy(eager.method.state_dict())]
        for k in range(3):
            eager(k)
            states.append(copy.deepcopy(eager.method.state_dict()))
    with open_step(tmp_path / "compiled", *same, "trainer.compile=always") as compiled:
        for k in range(3):
            compiled.method.load_state_dict(states[k])
            compiled(k)
            for name, value in compiled.method.state_dict().items():
                torch.testing.assert_close(value, states[k + 1][name], rtol=1e-3, atol=3e-4)


def test_the_teacher_follows_the_student_after_the_optimizer_step(tmp_path):
    with open_step(tmp_path / "run", "method=mean_teacher", "optimizer.lr=0.1") as train_step:
        before = train_step.method.student.classifier.weight.detach().clone()
        train_step(0)
        student, teacher = (
            train_step.method.student.classifier.weight,
            train_step.method.teacher.model.classifier.weight,
        )
    assert not torch.equal(student, before)
    torch.testing.assert_close(teacher, (before + student) / 2)


@pytest.mark.parametrize("method", options("method"))
def test_the_sums_of_metrics_keep_no_graph(method, tmp_path):
    with open_step(tmp_path / "run", f"method={method}") as train_step:
        train_step(0)
        assert not any(total.requires_grad for total in train_step.meter.sums.values())


def test_the_learning_rate_is_set_by_the_schedule(tmp_path):
    with open_step(tmp_path / "run", "steps=4", "schedule=cosine", "optimizer.lr=0.1") as train_step:
        for k, expected in enumerate((1, 0.8535534, 0.5, 0.1464466)):
            train_step(k)
            for group in train_step.optimizer.param_groups:
                assert group["lr"].item() == pytest.approx(0.1 * expected)


def test_the_augmentation_is_a_function_of_the_step(tmp_path):
    with open_step(tmp_path / "run") as train_step:
        images, drawn = train_step.batches.draw(3), []
        for number in (3, 4, 3):
            train_step.batches.draw(number)  # seeds the views
            drawn.append(train_step.batches.views(*images, train_step.method.views)[1].views)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))


def test_auto_compiles_long_runs_on_a_gpu():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    choose = device.choose_compile
    assert choose("auto", gpu, 2000) and not choose("auto", gpu, 1999) and not choose("auto", cpu, 10**6)
    assert choose("always", cpu, 1) and not choose("never", gpu, 10**6)


class FakeGraph:
    """Stands in for a CUDA graph: a replay runs the captured function again on the captured tensors."""

    captured = None

    def __init__(self):
        self.work, self.generators, FakeGraph.captured = lambda: None, [], self

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        self.work()


class FakeGenerator:
    """Stands in for a generator of a GPU: one that takes part in a failed capture cannot draw any more."""

    def __init__(self, device="cuda"):
        self.device, self.seed, self.capturing = device, 0, False

    def manual_seed(self, seed):
        self.seed = seed
        return self

    def initial_seed(self):
        return self.seed

    def graphsafe_set_state(self, other):
        self.seed, self.capturing = other.seed, other.capturing


@pytest.fixture
def no_cuda(monkeypatch):
    """Replaces the part of torch.cuda that `CUDAGraphStep` uses. As on a GPU, a capture runs nothing."""

    @contextmanager
    def nothing(*args, **kwargs):
        yield

    class Stream:
        current = None

        def wait_stream(self, other):
            pass

    @contextmanager
    def use_stream(stream):
        before, Stream.current = Stream.current, stream
        try:
            yield
        finally:
            Stream.current = before

    Stream.current = Stream.default = Stream()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream.current)
    monkeypatch.setattr(torch.cuda, "stream", use_stream)
    monkeypatch.setattr(torch.cuda, "graph", nothing)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", [FakeGenerator()])
    monkeypatch.setattr(torch, "Generator", FakeGenerator)
    return Stream


def test_a_step_is_captured_once_and_replayed_with_new_values(no_cuda):
    seen, generator = [], FakeGenerator()
    graph_step = CUDAGraphStep(lambda x, y: seen.append((x.item(), len(y), id(x))), [generator], lambda: None)
    for k in range(EAGER_CALLS):
        graph_step(torch.tensor(k), torch.zeros(0))
    assert [x for x, *_ in seen] == list(range(EAGER_CALLS)) and graph_step.graph is None
    graph_step(torch.tensor(EAGER_CALLS), torch.zeros(0))
    assert graph_step.graph is FakeGraph.captured and graph_step.graph.generators == [generator]
    graph_step.graph.work = lambda: graph_step.function(*graph_step.inputs)
    for k in (70, 80):
        graph_step(torch.tensor(k), torch.zeros(0))
    assert [x for x, *_ in seen[-2:]] == [70, 80] and seen[-1][2] == seen[-2][2], "the graph's own inputs"
    assert FakeGraph.captured is graph_step.graph


def test_a_failed_capture_is_reported_and_the_steps_run_eagerly(no_cuda, monkeypatch, caplog):
    """A failed capture, as in PyTorch: its stream stays current, its generators in use, and the function is cut off."""
    own = FakeGenerator().manual_seed(7)
    generators = [own, *torch.cuda.default_generators]

    @contextmanager
    def refuse(graph, stream, **options):
        no_cuda.current = stream
        for generator in generators:
            generator.capturing = True
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graph.torch.cuda, "graph", refuse)
    seen, gradients = [], []

    def step(x):
        assert not gradients and (no_cuda.current is graph_step.stream)
        gradients.append(1)
        if not any(generator.capturing for generator in generators):
            seen.append(x.item())
            gradients.clear()

    graph_step = CUDAGraphStep(step, [own], gradients.clear)
    for k in range(EAGER_CALLS + 3):
        graph_step(torch.tensor(k))
        assert no_cuda.current is no_cuda.default
    assert seen == list(range(EAGER_CALLS + 3)) and own.seed == 7
    assert caplog.text.count("cannot be captured") == 1 and "more" not in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("method", options("method"))
def test_a_graph_gives_the_same_bits_as_eager_steps(method, tmp_path, monkeypatch):
    same = (f"method={method}", "trainer.device=cuda", "trainer.compile=always", "model.dropout=0.3")
    replayed = train_steps(tmp_path / "graph", EAGER_CALLS + 4, *same)
    monkeypatch.setattr(cuda_graph, "EAGER_CALLS", 10**9)
    launched = train_steps(tmp_path / "launched", EAGER_CALLS + 4, *same)
    assert all(torch.equal(launched["method"][name], value) for name, value in replayed["method"].items())


@pytest.mark.gpu
def test_a_step_does_not_synchronize_on_a_gpu(tmp_path):
    with open_step(tmp_path / "run", "trainer.device=cuda") as train_step:
        train_step(0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")

"""Steps that are captured as a CUDA graph, on a GPU and with stand-ins for it, and captures that fail."""

from contextlib import contextmanager

import pytest
import torch
from conftest import options
from small_steps import open_step

from meanteacher.training import cuda_graph
from meanteacher.training.cuda_graph import EAGER_CALLS, CUDAGraphStep


class FakeGraph:
    """A stand-in for a CUDA graph whose replay calls `work`, which the test sets after the capture."""

    captured = None

    def __init__(self):
        self.work, self.generators, FakeGraph.captured = lambda: None, [], self

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def replay(self):
        self.work()


class FakeGenerator:
    """Stands in for a generator of a GPU. After a failed capture `capturing` is True, and it can no longer draw."""

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
def fake_cuda(monkeypatch):
    """Stand-ins for the parts of torch.cuda that `CUDAGraphStep` uses; returns the class of streams."""

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


def test_a_step_is_captured_once_and_replayed_with_new_values(fake_cuda):
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


def test_a_failed_capture_is_reported_and_the_steps_run_eagerly(fake_cuda, monkeypatch, caplog):
    """As in PyTorch, a failed capture leaves its stream current, its generators capturing, and the function cut off."""
    own = FakeGenerator().manual_seed(7)
    generators = [own, *torch.cuda.default_generators]

    @contextmanager
    def refuse(graph, stream, **options):
        fake_cuda.current = stream
        for generator in generators:
            generator.capturing = True
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graph.torch.cuda, "graph", refuse)
    seen, gradients = [], []

    def step(x):
        assert not gradients and (fake_cuda.current is graph_step.stream)
        gradients.append(1)
        if not any(generator.capturing for generator in generators):
            seen.append(x.item())
            gradients.clear()

    graph_step = CUDAGraphStep(step, [own], gradients.clear)
    for k in range(EAGER_CALLS + 3):
        graph_step(torch.tensor(k))
        assert fake_cuda.current is fake_cuda.default
    assert seen == list(range(EAGER_CALLS + 3)) and own.seed == 7
    assert caplog.text.count("cannot be captured") == 1 and "more" not in caplog.text


def train_steps(folder, count, *overrides):
    """The state after the first `count` steps."""
    with open_step(folder, *overrides) as train_step:
        for number in range(count):
            train_step(number)
        return train_step.state_dict()


@pytest.mark.gpu
@pytest.mark.parametrize("method", options("method"))
def test_a_graph_gives_the_same_bits_as_eager_steps(method, tmp_path, monkeypatch):
    same = (f"method={method}", "trainer.device=cuda", "trainer.compile=always", "model.dropout=0.3")
    replayed = train_steps(tmp_path / "graph", EAGER_CALLS + 4, *same)
    monkeypatch.setattr(cuda_graph, "EAGER_CALLS", 10**9)
    launched = train_steps(tmp_path / "launched", EAGER_CALLS + 4, *same)
    assert all(torch.equal(launched["method"][name], value) for name, value in replayed["method"].items())

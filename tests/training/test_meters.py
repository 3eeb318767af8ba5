"""Means of metrics, which hold no autograd graph, and the training time."""

import pytest
import torch
from conftest import options, parsed

from meanteacher.config.settings import Choices
from meanteacher.data.batch import StepOutput
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training import device, meters
from meanteacher.training.meters import Meter, Stopwatch

CPU = torch.device("cpu")


def test_means_are_taken_since_the_previous_call():
    meter = Meter()
    for values in ((1.0, 3.0), (4.0,)):
        for value in values:
            meter.add({"loss": torch.tensor(value), "double": torch.tensor(2 * value)})
            meter.count += 1
        mean = sum(values) / len(values)
        assert meter.means() == {"loss": mean, "double": 2 * mean}


def test_sums_are_detached_and_keep_their_memory():
    meter, weight = Meter(), torch.ones((), requires_grad=True)
    meter.add({"loss": 2 * weight})
    address = meter.sums["loss"].data_ptr()
    meter.add({"loss": 3 * weight})
    total = meter.sums["loss"]
    assert total.item() == 5 and not total.requires_grad and total.grad_fn is None and total.data_ptr() == address


@pytest.mark.parametrize("method", options("method"))
def test_no_metric_of_a_step_keeps_the_graph(method, tmp_path):
    settings = parsed(
        "experiment=quickstart", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8", f"method={method}"
    )
    with RunDir(tmp_path / "run", "", False) as run_dir:
        step = Session(settings.replace({"logger": {}}), Choices(), run_dir, show_progress=False).trainer.train_step
        step(0)
    assert step.meter.sums and not any(total.requires_grad for total in step.meter.sums.values())


def test_a_compiled_step_gives_the_same_gradients_whether_or_not_the_metrics_are_detached(tmp_path):
    device.prepare(CPU, compiled=True)
    settings = parsed("experiment=quickstart", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8")
    with RunDir(tmp_path / "run", "", False) as run_dir:
        step = Session(settings.replace({"logger": {}}), Choices(), run_dir, show_progress=False).trainer.train_step
    labeled, unlabeled = step.batches.views(*step.batches.draw(0), step.method.views)

    def with_graph(labeled, unlabeled, number):
        output = step.method.training_step(labeled, unlabeled, number)
        return StepOutput(output.loss, {"loss": output.loss * 1, "twice": output.loss * 2})

    def detached(*arguments):
        output = with_graph(*arguments)
        return StepOutput(output.loss, {name: value.detach() for name, value in output.metrics.items()})

    gradients = []
    state = {name: value.clone() for name, value in step.method.state_dict().items()}
    for function in (with_graph, detached):
        step.method.load_state_dict(state)
        output = torch.compile(function, backend="aot_eager", fullgraph=True)(labeled, unlabeled, torch.zeros(()))
        assert output.metrics["twice"].requires_grad == (function is with_graph)
        output.loss.backward()
        gradients.append([parameter.grad.clone() for parameter in step.method.student.parameters()])
        step.optimizer.zero_grad()
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_stopwatch_counts_only_while_it_runs(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(meters, "time", clock)
    stopwatch = Stopwatch(CPU)
    assert stopwatch.read() == 0
    stopwatch.start()
    clock.now = 2
    assert stopwatch.read() == 2
    clock.now = 5
    stopwatch.stop()
    clock.now = 9
    stopwatch.stop()
    assert stopwatch.read() == 5
    stopwatch.start()
    clock.now = 10
    assert stopwatch.read() == 6

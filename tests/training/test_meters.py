"""Means of metrics, which hold no autograd graph, and the training time."""

import torch
from torch import nn

from meanteacher.methods.base import Method, StepOutput
from meanteacher.training import meters
from meanteacher.training.meters import Meter, Stopwatch
from meanteacher.training.train_step import detached_metrics

CPU = torch.device("cpu")


def test_means_are_taken_since_the_previous_call():
    meter = Meter()
    for values in ((1.0, 3.0), (4.0,)):
        for value in values:
            meter.add({"loss": torch.tensor(value), "double": torch.tensor(2 * value)})
            meter.count += 1
        mean = sum(values) / len(values)
        assert meter.means() == {"loss": mean, "double": 2 * mean}


def test_sums_are_updated_in_place():
    meter = Meter()
    meter.add({"loss": torch.tensor(2.0)})
    address = meter.sums["loss"].data_ptr()
    meter.add({"loss": torch.tensor(3.0)})
    assert meter.sums["loss"].item() == 5 and meter.sums["loss"].data_ptr() == address


def test_metrics_are_detached_inside_of_what_is_compiled():
    class Weighted(Method):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def training_step(self, labeled, unlabeled, step):
            return StepOutput(3 * self.weight, {"twice": 2 * self.weight})

    method = Weighted()
    for function in (detached_metrics(method), torch.compile(detached_metrics(method), backend="aot_eager")):
        loss, metrics, _ = function(None, None, torch.zeros(()))
        assert loss.requires_grad and not metrics["twice"].requires_grad and metrics["twice"].item() == 2


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

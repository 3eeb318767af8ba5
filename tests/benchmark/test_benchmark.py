"""The benchmark's plain loop trains as this package's step does, and its numbers are consistent. No speed is tested."""

import contextlib
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import settings
from torch import nn
from torch.autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode

from meanteacher.benchmark import command, kernels, measure, roofline
from meanteacher.benchmark.ours import PARTS, Ours
from meanteacher.benchmark.random_data import random_images
from meanteacher.benchmark.reference import Reference, ViewDataset
from meanteacher.benchmark.timing import time_seconds
from meanteacher.benchmark.variants import Variant
from meanteacher.config.cli import main
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.runs.build import build

SMALL = ["--model=wrn_10_1", "--images=512", "label=40", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8"]
SHORT = ["--rounds=1", "--steps=1", "--workers=0", "--device=cpu"]


NAMES = {"model": "wrn_10_1", "method": "mean_teacher"}


def small_settings(*arguments: str) -> Settings:
    return command.compose_settings(*command.parse([*SMALL, "--device=cpu", *arguments]))


def test_the_written_numbers_are_consistent(tmp_path, capsys):
    file, picture = tmp_path / "found.json", tmp_path / "found.png"
    arguments = [*SMALL, *SHORT, "trainer.precision=bf16", f"--json={file}", f"--picture={picture}"]
    assert main(["benchmark", *arguments]) == 0
    found = json.loads(file.read_text())
    assert found["command"] == " ".join(["meanteacher benchmark", *arguments])
    assert {"commit", "hardware", "threads", "versions"} <= set(found)
    assert [found[key] for key in ("method", "model", "device", "precision", "compiled", "steps", "workers")] == [
        "mean_teacher", "wrn_10_1", "cpu", "bf16", False, 1, 0,
    ]  # fmt: skip
    variants = ["plain loop fp32", "ours fp32", "ours bf16"]
    seconds = found["seconds_per_step"]
    assert list(seconds) == list(found["images_per_second"]) == list(found["ratio_to_plain_loop"]) == variants
    for name in variants:
        assert found["images_per_second"][name] == pytest.approx([16 / s for s in seconds[name]])
        ratios = [a / b for a, b in zip(seconds["plain loop fp32"], seconds[name], strict=True)]
        assert found["ratio_to_plain_loop"][name] == pytest.approx(ratios) and len(ratios) == 1
        assert found["peak_memory_bytes"][name] > 0
    parts = found["parts"]
    assert list(parts) == ["step", *PARTS, "rest"]
    assert parts["step"] == pytest.approx(np.sum([parts[name] for name in (*PARTS, "rest")], axis=0))
    assert found["roofline"]["seconds"] > 0 and found["kernels"][0]["share"] >= found["kernels"][1]["share"] > 0
    assert len(found["kernels"]) == kernels.KERNELS and found["gaps"] is None
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in [*variants, *PARTS, "fit()", "roofline", "kernel"])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "argument",
    ["--rounds=0", "--steps=x", "--workers=-1", "--images=0", "--model=wrn", "--nothing", "optimizer.lr=0.5"],
)
def test_a_bad_argument_is_reported_in_one_line(argument, capsys):
    assert main(["benchmark", argument]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1


def test_a_variant_that_fails_is_named():
    settings = small_settings().replace({"label": 10**6})
    with pytest.raises(UserError, match="^odd: label=1000000"):
        measure.Process(settings, NAMES, Variant("odd", "fp32", "never"))


def test_fit_takes_the_steps_it_is_timed_for():
    ours = Ours(small_settings("--steps=3"), NAMES, Variant("ours", "fp32", "never"))
    for step in (3, 6):
        assert ours.fit_seconds(3) > 0 and ours.trainer.step == step
    assert not any("error" in key for record in ours.trainer.history for key in record)
    assert not (ours.run_dir.path / "checkpoint.pt").exists()


@pytest.mark.parametrize("method", ["mean_teacher", "fixmatch", "supervised"])
def test_the_plain_step_trains_the_student_on_batches_of_the_same_kind(method):
    reference = Reference(small_settings(f"--method={method}"))
    reference.load(0)
    labeled, unlabeled = reference.batches()
    views = reference.method.views
    assert (len(labeled.views), len(unlabeled.views)) == (len(views.labeled), len(views.unlabeled))
    assert all(view.shape == (8, 3, 32, 32) and view.dtype == torch.float32 for view in labeled.views + unlabeled.views)
    assert torch.equal(labeled.target, labeled.index % 10)
    before = reference.method.student.classifier.weight.clone()
    assert reference.step() > 0 and not torch.equal(before, reference.method.student.classifier.weight)


def test_the_plain_views_are_possible_views_of_this_package():
    images, augment = random_images(count=20).train, build(settings()["augment"])
    augment.fit(images.pixels)
    translate, flip = augment.views["weak"].values()
    mean, std = (value.flatten().tolist() for value in (augment.normalize.mean, augment.normalize.std))
    plain = ViewDataset(images, ("weak", "weak"), mean, std)
    top, left, flipped = torch.tensor(list(itertools.product(range(9), range(9), (0, 1)))).T[..., None, None, None]
    for index in (0, 7):
        copies = torch.from_numpy(images.pixels[index]).float().div(255).expand(len(top), -1, -1, -1)
        possible = augment.normalize(flip.apply(translate.apply(copies, top, left), flipped.bool()))
        same, target, *views = plain[index]
        assert same == index and target == images.targets[index]
        for view in views:
            assert (possible - view).abs().amax((1, 2, 3)).min() < 1e-5


def test_the_roofline_counts_forward_and_backward_convolutions_and_matrix_products(monkeypatch):
    monkeypatch.setattr(roofline, "measure_rates", lambda device, precision: (1e9, 1e6))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(4 * 5 * 5, 2))
    images = torch.randn(6, 3, 5, 5)
    found = roofline.bound(lambda: model(images).sum().backward(), torch.device("cpu"), "fp32")
    conv, linear = 2 * 6 * 25 * 4 * 3 * 9, 2 * 6 * 100 * 2
    assert found["flops"] == 2 * conv + 3 * linear  # the images take no gradient
    slowest = found["bytes"] / 1e6
    assert found["seconds"] == pytest.approx(slowest) and found["share_bound_by_memory"] == 1


def test_gaps_are_where_no_interval_is():
    found = kernels.measure_gaps([(20, 30), (0, 10), (5, 12), (22, 25), (31, 50)])
    assert found == {"count": 2, "share_idle": 9 / 50, "median_us": 4.5, "longest_us": 8}
    assert kernels.measure_gaps([(3, 5)]) == {"count": 0, "share_idle": 0, "median_us": 0, "longest_us": 0}


def test_on_a_gpu_only_kernels_count_and_not_what_started_or_encloses_them(monkeypatch):
    def event(name, kind, start, end, annotation=False):
        fields = {"device_type": kind, "is_user_annotation": annotation, "self_device_time_total": end - start}
        return SimpleNamespace(
            key=name, count=6, time_range=SimpleNamespace(start=start, end=end), self_cpu_time_total=1, **fields
        )

    events = [
        event("cudaGraphLaunch", DeviceType.CPU, 0, 9000),
        event("convolution", DeviceType.CUDA, 1000, 4000),
        event("add", DeviceType.CUDA, 5000, 6000),
        event("Optimizer.step", DeviceType.CUDA, 0, 9000, annotation=True),
    ]
    fake = SimpleNamespace(key_averages=lambda: events, events=lambda: events)
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: contextlib.nullcontext(fake))
    monkeypatch.setattr(kernels, "time_seconds", lambda device, work: work())
    found = kernels.profile(lambda: None, torch.device("cuda"), 2)
    assert found["kernels"] == [
        {"name": "convolution", "calls": 3, "ms": 1.5, "share": 0.75},
        {"name": "add", "calls": 3, "ms": 0.5, "share": 0.25},
    ]
    assert found["gaps"] == {"count": 1, "share_idle": 0.2, "median_us": 1000, "longest_us": 1000}


def test_timing_ends_at_an_interruption():
    def work():
        raise InterruptedError

    assert 0 <= time_seconds(torch.device("cpu"), work) < 1


def test_the_roofline_counts_the_operations_that_pytorch_counts():
    ours = Ours(small_settings(), NAMES, Variant("ours", "fp32", "never"))
    labeled, unlabeled = ours.step.batches.views(*ours.step.batches.draw(0), ours.step.method.views)

    def step():
        ours.step.method.training_step(labeled, unlabeled, torch.zeros(())).loss.backward()

    with FlopCounterMode(display=False) as expected:
        step()
    with roofline.OperationCounter() as counter:
        step()
    assert sum(flops for flops, _ in counter.calls) == expected.get_total_flops() > 0

"""The benchmark's plain loop does what our step does, and its numbers fit together. No speed is tested."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from conftest import settings

from meanteacher import benchmark
from meanteacher.batch import Labeled, Unlabeled
from meanteacher.build import build, build_method
from meanteacher.runfolder import RunFolder
from meanteacher.session import Session

SMALL = ["--model=wrn_10_1", "--images=512", "label=40", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8"]
SHORT = ["--rounds=1", "--steps=1", "--workers=0", "--device=cpu"]
PARTS = ["data", "augmentation", "forward+backward", "optimizer", "EMA", "rest"]


def test_it_writes_numbers_that_fit_together(tmp_path, capsys):
    file = tmp_path / "found.json"
    arguments = [*SMALL, *SHORT, "trainer.precision=bf16", f"--json={file}"]
    assert benchmark.main(arguments) == 0
    found = json.loads(file.read_text())
    assert found["command"] == " ".join(["python -m meanteacher.benchmark", *arguments])
    assert {"commit", "hardware", "threads", "versions"} <= set(found)
    assert (found["model"], found["device"], found["precision"], found["steps"]) == ("wrn_10_1", "cpu", "bf16", 1)
    assert (found["images_per_step"], found["workers"]) == (16, 0)
    assert found["peak_memory_bytes"] > 0 and found["seconds_per_step_by_workers"]["0"] > 0
    variants = ["reference fp32", "ours fp32", "ours bf16"]
    seconds = found["seconds_per_step"]
    assert set(seconds) == {*variants, "trainer.fit()", "step", *PARTS}
    assert list(found["images_per_second"]) == list(found["ratio_to_reference"]) == variants
    for name in variants:
        assert found["images_per_second"][name] == pytest.approx([16 / s for s in seconds[name]])
        ratios = [a / b for a, b in zip(seconds["reference fp32"], seconds[name], strict=True)]
        assert found["ratio_to_reference"][name] == pytest.approx(ratios) and len(ratios) == 1
    assert seconds["step"] == pytest.approx(np.sum([seconds[part] for part in PARTS], axis=0))
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in [*variants, *PARTS, "trainer.fit()"])


def test_it_says_that_auto_is_fp32(capsys):
    assert benchmark.main([*SMALL, *SHORT, "trainer.precision=fp32"]) == 0
    printed = capsys.readouterr().out
    assert "trainer.precision is fp32 here" in printed and "ours bf16" not in printed


@pytest.mark.parametrize(
    "argument",
    ["--rounds=0", "--steps=x", "--workers=-1", "--images=0", "--model=wrn", "--nothing", "method.ema_decay=0.5"],
)
def test_bad_arguments_are_one_line(argument, capsys):
    assert benchmark.main([argument]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1


def test_without_configuration_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark.composed, "CONF", tmp_path / "conf")
    assert benchmark.main([]) == 1
    assert "conf" in capsys.readouterr().err


def test_fit_takes_the_steps_it_is_timed_for(tmp_path):
    args, chosen = benchmark.prepare([*SMALL, "--steps=3", "--device=cpu"])
    names = {"dataset": "random", "model": args.model, "method": "mean_teacher", "experiment": None}
    with RunFolder(tmp_path / "run", "", False) as folder:
        session = Session(chosen, names, folder)
        session.trainer.loggers[-1] = benchmark.Stop()
        for step in (3, 6):
            assert benchmark.timed(session.device, session.fit) > 0
            lines = (folder.path / "metrics.jsonl").read_text().splitlines()
            assert session.trainer.step == step == json.loads(lines[-1])["step"]
    assert not any("error" in key for record in session.trainer.history for key in record)
    assert {path.name for path in folder.path.iterdir()} == {"metrics.jsonl", "split.json"}


def test_the_plain_step_computes_what_ours_does():
    chosen = settings("model=wrn_10_1", "method.ema_warmup=false", "steps=100")
    data, generator = benchmark.random_images(count=20), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    method = build_method(chosen, data).train()
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.ema.model)
    first, second = torch.randn(2, 12, 3, 32, 32, generator=generator)
    target, index, step = torch.arange(4), torch.arange(12), torch.tensor(30.0)
    labeled, unlabeled = (
        Labeled(index[:4], (first[:4], second[:4]), target),
        Unlabeled(index[4:], (first[4:], second[4:])),
    )
    ours = method.training_step(labeled, unlabeled, step).loss
    plain = benchmark.plain_loss(student, teacher, [first, second], target, method.weight * method.ramp(step).item())
    torch.testing.assert_close(plain, ours)
    for loss, model in ((ours, method.student), (plain, student)):
        loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
    method.after_step(step)
    benchmark.update_average(teacher, student, chosen["method"]["ema_decay"])
    for mine, other in ((method.student, student), (method.ema.model, teacher)):
        torch.testing.assert_close(mine.state_dict(), other.state_dict())


def test_the_plain_views_are_among_ours():
    images, augment = benchmark.random_images(count=20).train, build(settings()["augment"])
    augment.fit(images.pixels)
    translate, flip = augment.views["weak"].values()
    mean, std = (value.flatten().tolist() for value in (augment.normalize.mean, augment.normalize.std))
    plain = benchmark.TwoViews(images, mean, std)
    top, left, flipped = torch.tensor(list(itertools.product(range(9), range(9), (0, 1)))).T[..., None, None, None]
    for index in (0, 7):
        copies = torch.from_numpy(images.pixels[index]).float().div(255).expand(len(top), -1, -1, -1)
        possible = augment.normalize(flip.apply(translate.apply(copies, top, left), flipped.bool()))
        *views, target = plain[index]
        assert target == images.targets[index]
        for view in views:
            assert (possible - view).abs().amax((1, 2, 3)).min() < 1e-5

"""Whole runs: they learn, leave their folder complete, report their errors, and warn of settings that do not fit."""

import json

import pytest
import torch
import yaml
from conftest import TINY, command, options
from short_runs import go, history, leave_out_pictures

import meanteacher
from meanteacher.data.datasets import digits
from meanteacher.runs.result import Result
from meanteacher.training import eta
from meanteacher.training.evaluator import Evaluator

SHORT_RUN = {"meta_pseudo_labels": ["method.unlabeled_weight=1"]}
"""What a method needs to learn in 150 steps: the authors' λ = 8 is for 300,000 and leaves an error of 75 % here."""


@pytest.mark.parametrize("method", options("method"))
def test_every_method_learns_digits(method, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    result = go(
        tmp_path / "run",
        f"method={method}",
        "label=100",
        "steps=150",
        "eval_every=150",
        "trainer.labeled_batch=32",
        "trainer.average_decay=0.9",
        "optimizer.lr=0.1",
        *SHORT_RUN.get(method, []),
    )
    assert all(scores.error_last < 0.65 for scores in result.models.values())  # chance is 0.9
    test = digits(image_size=16).test
    for network, scores in result.models.items():  # from the folder alone
        predicted = meanteacher.load(tmp_path / "run", network=network).logits(torch.from_numpy(test.pixels)).argmax(1)
        assert (predicted.numpy() != test.targets).mean() == pytest.approx(scores.error_last)


def test_a_run_leaves_its_folder_complete(tmp_path):
    result = go(tmp_path / "run", "validation=50")
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} >= {
        "config.yaml",
        "run.log",
        "split.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "inference.json",
        "plots",
        "report.html",
        "result.json",
    }
    assert {p.name for p in (folder / "plots").iterdir()} == {"curves.png", "confusion.png", "labeled.png", "views.png"}
    assert Result.read(folder / "result.json") == result
    assert yaml.safe_load((folder / "config.yaml").read_text())["label"] == 20
    assert result.status == "finished" and result.steps == 6
    for name in ("images_per_second", "wall_seconds", "peak_memory_bytes", "versions", "commit", "command", "digest"):
        assert getattr(result, name) is not None
    for models in (result.models, result.validation):
        assert set(models) == {"student", "teacher"}
        assert all(scores.error_median_last_20 is None and 0 <= scores.ece <= 1 for scores in models.values())
    assert (
        result.models["teacher"].error_best_on_test is not None
        and result.validation["teacher"].error_best_on_test is None
    )
    for network, scores in result.by_class.items():
        counted = {name: sum(getattr(each, name) for each in scores.values()) for name in ("images", "correct")}
        assert len(scores) == 10 and counted["images"] == result.data["test"]
        assert 1 - counted["correct"] / counted["images"] == pytest.approx(result.models[network].error_last)
    split = json.loads((folder / "split.json").read_text())
    assert len(split["labeled"]) == 20 and len(split["validation"]) == 50


def test_the_median_of_the_last_20_evaluations(tmp_path):
    result = go(tmp_path / "run", "steps=21", "eval_every=1", "method=supervised")
    errors = [r["test/average/error"] for r in history(tmp_path / "run") if "test/average/error" in r]
    assert len(errors) == 21
    last = sorted(errors[-20:])
    assert result.models["average"].error_median_last_20 == pytest.approx((last[9] + last[10]) / 2)
    assert result.models["average"].error_best_on_test == min(errors)


def test_the_last_evaluation_serves_every_picture_and_score(tmp_path, monkeypatch):
    original, passes = Evaluator.logits, []
    monkeypatch.setattr(Evaluator, "logits", lambda self, *which: passes.append(which[1]) or original(self, *which))
    go(tmp_path / "run", "validation=50")
    assert passes == ["test", "test", "validation", "validation"] * 2, "two evaluations of student and teacher"


def test_memory_mapped_images_train_to_the_same_bits(tmp_path):
    assert go(tmp_path / "a", "dataset.storage=mmap").models == go(tmp_path / "b", "dataset.storage=device").models


def test_a_long_run_says_so_at_once_and_names_what_is_shorter(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(eta, "LONG_HOURS", 1e-9)
    with caplog.at_level("INFO", "meanteacher"):
        go(tmp_path / "run", "steps=12")
    assert "images/s, about" in caplog.text and "this run takes about" in caplog.text and "steps=1 would" in caplog.text


def test_too_slow_batch_norm_is_warned_of(tmp_path, caplog):
    go(tmp_path / "run", "model.bn_momentum=0.001")
    assert (
        "99 % of the initial batch-norm statistics would be left after 6 steps; use model.bn_momentum=0.4"
        in caplog.text
    )


def test_the_command_trains_reports_and_returns_the_validation_error(tmp_path):
    first = command(*TINY, "validation=50", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for words in (
        "20 labeled",
        "wrn_10_1",
        "test error of the student",
        "test error of the teacher",
        "run folder: ",
        "curves.png",
    ):
        assert words in first.stderr
    folder = next((tmp_path / "outputs/digits/mean_teacher/label-20/seed-0").glob("*/result.json")).parent
    assert json.loads((folder / "result.json").read_text())["choices"]["experiment"] == "quickstart"
    sweep = command("-m", *TINY, "validation=50", "seed=0,1", cwd=tmp_path)
    assert sweep.returncode == 0 and "2 runs (seed 0,1), 1 of them finished" in sweep.stderr
    results = [
        json.loads(p.read_text()) for p in tmp_path.glob("outputs/digits/mean_teacher/label-20/seed-*/*/result.json")
    ]
    assert {r["seed"]: bool(r["choices"]["sweep"]) for r in results} == {0: False, 1: True}

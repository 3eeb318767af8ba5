"""The same command resumes an interrupted or killed run to the same bits, and reports a finished one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY, options
from short_runs import go, history, leave_out_pictures

from meanteacher.runs import run_page
from meanteacher.runs.result import Result
from meanteacher.runs.session import Session
from meanteacher.training.checkpoint import Checkpoints
from meanteacher.training.train_step import TrainStep


def without_speed(records):
    return [{k: v for k, v in record.items() if k != "train/images_per_second"} for record in records]


@pytest.mark.parametrize("method", options("method"))
def test_an_interrupted_run_goes_on_to_the_same_bits(method, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    changes = (f"method={method}", "steps=9", "trainer.log_every=2", "model.dropout=0.2", "validation=40")
    whole = go(tmp_path / "whole", *changes)
    original = TrainStep.__call__

    def stop_in_step_5(self, step):
        original(self, step)
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainStep, "__call__", stop_in_step_5)
    assert go(tmp_path / "parts", *changes).status == "interrupted"
    monkeypatch.setattr(TrainStep, "__call__", original)
    parts = go(tmp_path / "parts", *changes)
    assert parts.status == "finished" and parts.attempts == 2 and parts.bitwise
    assert parts.models == whole.models and parts.validation == whole.validation
    assert without_speed(history(tmp_path / "whole")) == without_speed(history(tmp_path / "parts"))
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["method"] for name in ("whole", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_killed_run_goes_on_from_its_checkpoint_and_a_broken_one_falls_back(tmp_path, monkeypatch, caplog):
    whole = go(tmp_path / "whole")
    original = TrainStep.__call__

    def die_in_step_5(self, step):
        if step == 4:
            raise SystemExit
        original(self, step)

    monkeypatch.setattr(TrainStep, "__call__", die_in_step_5)
    with pytest.raises(SystemExit):
        go(tmp_path / "parts", "trainer.checkpoint_minutes=0.0000001")
    monkeypatch.setattr(TrainStep, "__call__", original)
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(b"torn")
    assert json.loads((tmp_path / "parts" / "result.json").read_text())["status"] == "failed"
    assert go(tmp_path / "parts").models == whole.models
    assert without_speed(history(tmp_path / "whole")) == without_speed(history(tmp_path / "parts"))
    assert "checkpoint.pt is not used" in caplog.text


def test_a_finished_run_is_reported_and_fresh_keeps_the_old_one(tmp_path, monkeypatch):
    first = go(tmp_path / "run")
    monkeypatch.setattr(TrainStep, "__call__", None)
    assert go(tmp_path / "run") == first
    monkeypatch.undo()
    again = go(tmp_path / "run", "fresh=true")
    assert again.models == first.models
    assert Result.read(tmp_path / "run.old-1" / "result.json") == first


def test_a_run_that_was_stopped_while_its_page_was_written_is_completed(tmp_path, monkeypatch):
    whole = go(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(run_page, "write_atomically", lambda path, content: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "run")
    assert Result.read(tmp_path / "run/result.json").status == "interrupted"
    monkeypatch.setattr(TrainStep, "__call__", None)
    result = go(tmp_path / "run")
    assert result.models == whole.models and result.by_class == whole.by_class and result.attempts == 2
    page = tmp_path / "run/report.html"
    content = page.read_bytes()
    page.unlink()
    (tmp_path / "run/plots/curves.png").unlink()
    assert go(tmp_path / "run") == result, "a finished run gets the files that it lacks, without training"
    assert page.read_bytes() == content and (tmp_path / "run/plots/curves.png").exists()


def test_sigusr1_saves_a_checkpoint_and_the_run_goes_on(tmp_path, monkeypatch):
    original, saved = TrainStep.__call__, []

    def request_in_step_3(self, step):
        original(self, step)
        if step == 2:
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(TrainStep, "__call__", request_in_step_3)
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: saved.append(state["step"]))
    assert go(tmp_path / "run").status == "finished" and saved == [3, 6]


def test_sigterm_while_the_run_starts_leaves_it_interrupted(tmp_path, monkeypatch):
    def terminated(self, *arguments):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Session, "build_trainer", terminated)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run")
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "interrupted"


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    arguments = [a if not a.startswith("steps=") else "steps=5000" for a in TINY]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.time() + 120
    while not list(tmp_path.glob("outputs/**/metrics.jsonl")) and time.time() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "rerun the command to resume" in errors and "Traceback" not in errors
    folder = next(tmp_path.glob("outputs/**/result.json")).parent
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    assert (folder / "checkpoint.pt").exists()

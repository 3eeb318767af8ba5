"""Faults that a run meets: damaged files in its folder, a full disk, too little memory, and what resumes after them."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from short_runs import go, go_until_an_error

from meanteacher.config.errors import UserError
from meanteacher.runs import plots
from meanteacher.runs.run_dir import RunDir
from meanteacher.training.train_step import TrainStep


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run that ended with an error."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    go_until_an_error(folder)
    return folder


@pytest.fixture
def run_folder(stopped, tmp_path):
    """A copy of `stopped`, which the test may change."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def resumed(caplog) -> bool:
    return "resume  after step" in caplog.text


def test_a_torn_split_does_not_block_the_run(run_folder, caplog):
    caplog.set_level("INFO")
    whole = (run_folder / "split.json").read_bytes()
    (run_folder / "split.json").write_bytes(whole[:100])
    assert go(run_folder).status == "finished" and resumed(caplog)
    assert (run_folder / "split.json").read_bytes() == whole


def test_an_edited_split_stops_the_run_before_it_trains(run_folder):
    content = json.loads((run_folder / "split.json").read_text())
    for key in ("labeled", "labeled_names", "labeled_classes"):
        content[key].pop()
    (run_folder / "split.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"split.json: does not hold the images and labels that the settings choose"):
        go(run_folder)
    (run_folder / "split.json").unlink()
    assert go(run_folder).status == "finished"


def test_a_damaged_result_is_told_in_one_line_and_can_be_deleted(run_folder, caplog):
    caplog.set_level("INFO")
    content = json.loads((run_folder / "result.json").read_text())
    without = {name: value for name, value in content.items() if name != "status"}
    damaged = [json.dumps(without), json.dumps(content | {"schema_version": 99}), "{", "", "[]", "\udcff"]
    damaged += [json.dumps(content | {"attempts": "two"}), json.dumps(content | {"surprise": 1})]
    damaged += [json.dumps(content | {"status": "finished", "models": {"teacher": {"error_last": 0.01}}})]
    damaged += [json.dumps({"status": "finished", "schema_version": 99})]
    for text in damaged:
        (run_folder / "result.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(
            UserError, match=r"result.json: .*; delete it to go on from the checkpoint, or use fre"
        ) as e:
            go(run_folder)
        assert "\n" not in str(e.value)
    (run_folder / "result.json").unlink()
    assert go(run_folder).status == "finished" and resumed(caplog)


@pytest.mark.parametrize("result", [None, "{"])
def test_fresh_never_resumes_whatever_result_there_is(result, run_folder, caplog):
    caplog.set_level("INFO")
    (run_folder / "result.json").unlink()
    if result:
        (run_folder / "result.json").write_text(result)
    assert go(run_folder, "fresh=true").status == "finished" and not resumed(caplog)
    assert (run_folder.with_name("run.old-1") / "checkpoint.pt").exists()


def test_a_checkpoint_of_other_labels_is_not_used(run_folder, caplog):
    saved = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        torch.save(saved | {"split": "0123456789"}, run_folder / name)
    assert go(run_folder).status == "finished"
    assert caplog.text.count("is not used (it was trained with other labeled images)") == 2


@pytest.mark.parametrize("name", ["result.json", "config.yaml", "split.json"])
def test_a_full_disk_is_told_in_one_line_and_the_same_command_goes_on(name, run_folder, monkeypatch, caplog):
    (run_folder / "split.json").unlink()
    checkpoint, write = (run_folder / "checkpoint.pt").read_bytes(), Path.write_bytes

    def full(self, content):
        if self.name.startswith(f".{name}."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    caplog.set_level("INFO")
    with pytest.raises(UserError, match=rf"{name}: cannot be written \(No space left on device\); make room, or use"):
        go(run_folder)
    assert "cannot be written" not in caplog.text and not list(run_folder.glob("*.tmp"))
    assert (run_folder / "checkpoint.pt").read_bytes() == checkpoint
    monkeypatch.undo()
    assert go(run_folder).status == "finished"


def test_a_picture_that_finds_no_room_is_drawn_by_the_rerun(run_folder, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plots, "confusion_matrix", full)
    with pytest.raises(UserError, match="run: cannot be written .No space left on device.; make room"):
        go(run_folder)
    assert json.loads((run_folder / "result.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    assert go(run_folder).status == "finished" and len(list((run_folder / "plots").iterdir())) == 4


def test_a_result_that_cannot_be_written_does_not_hide_the_error_of_the_run(tmp_path, monkeypatch, caplog):
    original = RunDir.write_result

    def full(self, result):
        if result.status != "running":
            raise OSError(28, "No space left on device")
        original(self, result)

    monkeypatch.setattr(RunDir, "write_result", full)
    with pytest.raises(UserError, match="the loss is not finite"):
        go(tmp_path / "run", "optimizer.lr=1e30", "trainer.log_every=1")
    assert "result.json cannot be written (No space left on device)" in caplog.text


def test_a_log_that_cannot_be_written_is_left_out(run_folder, capfd):
    (run_folder / "run.log").unlink()
    (run_folder / "run.log").mkdir()
    assert go(run_folder).status == "finished" and "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
            "Too many open files; raise the limit with `ulimit -n 4096`",
        ),
        (MemoryError(), "not enough memory; lower trainer.labeled_batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "not enough memory; lower"),
    ],
)
def test_what_runs_out_in_a_step_is_told_in_one_line(error, words, run_folder, monkeypatch):
    def fail(self, step):
        raise error

    monkeypatch.setattr(TrainStep, "__call__", fail)
    with pytest.raises(UserError, match=words):
        go(run_folder)
    assert words.partition(";")[0] in json.loads((run_folder / "result.json").read_text())["reason"]

"""Faults in the middle of a run: loggers that fail, weights that diverge, files that cannot be written."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, parsed
from test_run import go, history

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.settings import Choices
from meanteacher.loggers import Logger
from meanteacher.runs import plots, run
from meanteacher.runs.build import load_data
from meanteacher.runs.result import Result
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training.checkpoint import Checkpoints
from meanteacher.training.train_step import TrainStep


class Failing(Logger):
    """Fails in one of its methods; the others are recorded."""

    def __init__(self, name: str):
        self.calls = []
        for method in ("start", "on_step", "log", "log_pictures", "finish"):
            setattr(self, method, lambda *arguments, method=method: self.call(method, method == name))

    def call(self, method: str, fails: bool) -> None:
        self.calls.append(method)
        if fails:
            raise BrokenPipeError("its process was killed")


@pytest.mark.parametrize("name", ["start", "on_step", "log", "log_pictures", "finish"])
def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(name, tmp_path, monkeypatch, caplog):
    logger, real = Failing(name), Session.build_loggers
    monkeypatch.setattr(Session, "build_loggers", lambda self, show: [*real(self, show), logger])
    result = go(tmp_path / "run")
    assert result.status == "finished" and len(history(tmp_path / "run")) > 2
    assert caplog.text.count("Failing failed and records nothing from here on: its process was killed\n") == 1
    assert logger.calls.count(name) == 1 and logger.calls[-1] == ("start" if name == "start" else "finish")


def test_a_state_that_is_not_finite_is_never_saved_or_evaluated(tmp_path, monkeypatch):
    original = TrainStep.__call__

    def poison_in_step_4(self, step):
        original(self, step)
        if step == 3:
            next(self.method.student.parameters()).data.view(-1)[0] = float("nan")

    monkeypatch.setattr(TrainStep, "__call__", poison_in_step_4)
    often = ["trainer.checkpoint_minutes=0.0000001", "trainer.log_every=100", "eval_every=100"]
    with pytest.raises(UserError, match=r"a weight is not finite by step 4; lower optimizer.lr .* no checkpoint holds"):
        go(tmp_path / "run", *often)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        saved = torch.load(tmp_path / "run" / name, weights_only=True)
        assert saved["step"] <= 3 and all(value.isfinite().all() for value in saved["method"].values())
    with pytest.raises(UserError, match="a weight is not finite by step 4; "):
        go(tmp_path / "other", "eval_every=4", "trainer.log_every=100")
    monkeypatch.setattr(TrainStep, "__call__", original)
    assert go(tmp_path / "run", *often).status == "finished"


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


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "file.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: write_atomically(path, json.dumps([number] * 100)), range(400)))
    assert len(set(json.loads(path.read_text()))) == 1 and [p.name for p in tmp_path.iterdir()] == ["file.json"]


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


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run that was saved after step 3 of 6 and then ended by an error."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    original = TrainStep.__call__

    def fail_in_step_5(self, step):
        if step == 4:
            raise UserError("stopped")
        original(self, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError):
        patch.setattr(TrainStep, "__call__", fail_in_step_5)
        go(folder, "trainer.checkpoint_minutes=0.0000001")
    return folder


@pytest.fixture
def run_folder(stopped, tmp_path):
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


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("override", ["label=5", "trainer.labeled_batch=100000000", "trainer.device=cuda"])
def test_nothing_remains_of_a_run_that_is_refused(override, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError):
        go(tmp_path / "run", override)
    assert files_below(tmp_path) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(UserError):
        go(tmp_path / "run", "label=5")
    assert files_below(tmp_path) == ["run", "run/notes.txt"]


def test_a_refused_folder_stays_as_it_is(tmp_path, run_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.yaml").write_text("mine: 1")
    with pytest.raises(UserError, match=r"holds a config.yaml that is not of a run"):
        go(tmp_path / "other")
    assert files_below(tmp_path / "other") == ["config.yaml"] and not (tmp_path / "other.lock").exists()
    with pytest.raises(UserError, match="trainer.device=cuda: not available"):
        go(run_folder, "trainer.device=cuda")
    before = files_below(tmp_path)
    assert "run/checkpoint.pt" in before and Result.read(run_folder / "result.json").status == "failed"
    with pytest.raises(UserError, match="trainer.device=cuda: not available"):
        go(run_folder, "trainer.device=cuda", "fresh=true")
    assert files_below(tmp_path) == before, "the run that was set aside is back"


def test_a_refused_run_of_a_sweep_leaves_its_reason(tmp_path):
    with pytest.raises(UserError):
        run.run(parsed(*TINY, "label=5"), Choices(), tmp_path / "run", "c", show_progress=False)
    assert "label=5" in Result.read(tmp_path / "run/result.json").reason


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


def test_a_log_that_cannot_be_written_is_left_out(run_folder, capfd):
    (run_folder / "run.log").unlink()
    (run_folder / "run.log").mkdir()
    assert go(run_folder).status == "finished" and "Traceback" not in capfd.readouterr().err


def test_a_loss_that_is_not_finite_is_told_with_its_step_terms_and_images(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", "meanteacher")
    original, batches = TrainStep.compute, []

    def poison_in_step_4(self, step, *images):
        if step == 3:
            batches.append([tensor.tolist() for tensor in (images[0], images[2])])
            next(self.method.student.parameters()).data.view(-1)[0] = float("nan")
        original(self, step, *images)

    monkeypatch.setattr(TrainStep, "compute", poison_in_step_4)
    with pytest.raises(
        UserError, match=r"the loss is not finite by step 6 \(.*'supervised': nan.* first in step 4 "
    ) as e:
        go(tmp_path / "run", "trainer.log_every=6", "eval_every=6", "trainer.checkpoint_minutes=100")
    names = load_data(parsed(*TINY)).train.names
    for positions, part in zip(batches[0], ("labeled", "unlabeled"), strict=True):
        assert f"the {part} images {', '.join(names[i] for i in positions[:5])}, …" in str(e.value)
        listed = f"the {part} images of step 4: {', '.join(names[i] for i in positions)}"
        assert listed in (tmp_path / "run/run.log").read_text()


def test_a_folder_with_the_configuration_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("mine: 1\n")
    with pytest.raises(UserError, match="run: holds a config.yaml that is not of a run; choose another folder"):
        go(tmp_path / "run")
    assert (tmp_path / "run/config.yaml").read_text() == "mine: 1\n"

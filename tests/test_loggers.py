"""The loggers: what stands in a run folder after runs that finish, stop, resume, fail, and have no network."""

import json
import logging
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from meanteacher.errors import UserError
from meanteacher.loggers import RunInfo
from meanteacher.loggers import weights_and_biases as wb
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.loggers.progress import Progress
from meanteacher.loggers.tensorboard import TensorBoard
from meanteacher.loggers.weights_and_biases import Wandb


def info(folder: Path, start_step: int = 0, run_id: str = "0123abcd") -> RunInfo:
    folder.mkdir(parents=True, exist_ok=True)
    return RunInfo(
        folder=folder,
        id=run_id,
        config={"method": {"ema_decay": 0.99}, "steps": 300},
        group="quickstart",
        name="digits-mean_teacher-10-0",
        tags=["digits", "mean_teacher"],
        steps=300,
        start_step=start_step,
    )


def picture(folder: Path) -> dict[str, Path]:
    from PIL import Image

    path = folder / "curves.png"
    Image.new("RGB", (12, 8), (255, 0, 0)).save(path)
    return {"plots/curves": path}


def test_modules_are_cheap_to_import():
    modules = [f"meanteacher.loggers.{name}" for name in ("jsonl", "progress", "tensorboard", "weights_and_biases")]
    code = f"import sys, {', '.join(modules)}, meanteacher.plots; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"wandb", "torch", "matplotlib", "tqdm", "sklearn", "tensorboard"} & set(loaded)


# Jsonl


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_jsonl_has_a_line_per_call_at_once(tmp_path):
    logger = Jsonl()
    logger.start(info(tmp_path))
    logger.log(100, {"train/loss": 0.5})
    assert lines(tmp_path) == [{"step": 100, "train/loss": 0.5}], "not flushed"
    logger.log(200, {"test/student/error": 0.25, "test/teacher/error": 0.125})
    logger.finish("finished", {})
    assert lines(tmp_path)[1] == {"step": 200, "test/student/error": 0.25, "test/teacher/error": 0.125}


def test_jsonl_is_valid_json_whatever_the_value(tmp_path):
    logger = Jsonl()
    logger.start(info(tmp_path))
    logger.log(1, {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 1.0})
    logger.finish("failed", {})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "a": None, "b": None, "c": None, "d": 1.0}


def test_jsonl_resumes_after_the_last_whole_line_until_its_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 100, "x": 1}\n'
        b"\xff not json\n"
        b"7\n"
        b'{"x": 3}\n'
        b'{"step": 200, "x": 2}\n'
        b'{"step": 300, "x": 3}\n'
        b'{"step": 150, "x": 9}'  # killed while writing: whole by chance, but without its end
    )
    logger = Jsonl()
    logger.start(info(tmp_path, start_step=200))
    logger.log(300, {"x": 4})
    logger.finish("finished", {})
    assert lines(tmp_path) == [{"step": 100, "x": 1}, {"step": 200, "x": 2}, {"step": 300, "x": 4}]
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(("start_step", "before"), [(0, '{"step": 0, "x": 1}\n'), (200, None)])
def test_jsonl_starts_empty(tmp_path, start_step, before):
    if before:
        (tmp_path / "metrics.jsonl").write_text(before)
    logger = Jsonl()
    logger.start(info(tmp_path, start_step))
    logger.finish("interrupted", {})
    assert lines(tmp_path) == []


# Progress


def evaluation(teacher: str = "teacher") -> dict[str, float]:
    return {"test/student/error": 0.2141, f"test/{teacher}/error": 0.179, "test/student/cross_entropy": 0.9}


def test_progress_has_a_line_per_evaluation(tmp_path, caplog, monkeypatch):
    clock = iter([0.0, 30.0])
    monkeypatch.setattr("meanteacher.loggers.progress.time.monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "meanteacher")
    logger = Progress()
    logger.start(info(tmp_path, start_step=50))
    logger.log(100, {"train/loss": 0.4119, "train/images_per_second": 8123.4})
    assert not caplog.messages
    logger.log(200, evaluation())
    logger.pictures(picture(tmp_path))
    logger.finish("finished", {})
    assert caplog.messages == ["step 200/300 · loss 0.412 · student 21.4 % · teacher 17.9 % · 8123 img/s · ETA 0:20"]


def test_progress_takes_any_network_and_part(tmp_path, caplog):
    caplog.set_level(logging.INFO, "meanteacher")
    logger = Progress()
    logger.start(info(tmp_path, start_step=100))
    logger.log(100, {**evaluation("average"), "validation/student/error": 0.3})
    assert caplog.messages == ["step 100/300 · student 21.4 % · average 17.9 % · validation student 30.0 %"]


@pytest.mark.parametrize(("seconds", "shown"), [(0.1, "ETA 0:10"), (1, "ETA 1:40"), (40, "ETA 1:06:40")])
def test_progress_tells_the_time_left(tmp_path, caplog, monkeypatch, seconds, shown):
    clock = iter([0.0, 200 * seconds])
    monkeypatch.setattr("meanteacher.loggers.progress.time.monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "meanteacher")
    logger = Progress()
    logger.start(info(tmp_path))
    logger.log(200, evaluation())
    assert caplog.messages[0].endswith(shown)


def test_progress_is_a_bar_on_a_terminal_and_lines_go_above_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = logging.getLogger("meanteacher")
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    logger = Progress()
    logger.start(info(tmp_path, start_step=100))
    logger.alive(200)
    logger.log(200, {"train/loss": 0.4119, "train/images_per_second": 8123.4, **evaluation()})
    logging.getLogger("meanteacher.trainer").info("a line from elsewhere")
    logger._bar.refresh()
    logger.finish("finished", {})
    shown = capsys.readouterr().err
    assert "200/300" in shown
    assert "loss 0.412 · student 21.4 % · teacher 17.9 % · 8123 img/s" in shown
    assert "step 200/300" not in shown, "both a bar and lines"
    assert "\ra line from elsewhere\n" in shown
    assert log.handlers == [handler], "the handlers are put back"


# TensorBoard


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_tensorboard_has_scalars_and_pictures(tmp_path):
    logger = TensorBoard()
    logger.start(info(tmp_path))
    logger.log(100, {"train/loss": 0.5, "test/teacher/error": 0.25})
    logger.log(200, {"train/loss": 0.25})
    logger.pictures(picture(tmp_path))
    logger.finish("finished", {})
    found = events(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(100, 0.5), (200, 0.25)]
    assert [(event.step, event.value) for event in found.Scalars("test/teacher/error")] == [(100, 0.25)]
    (image,) = found.Images("plots/curves")
    assert (image.step, image.width, image.height) == (200, 12, 8)


@pytest.mark.parametrize(("start_step", "steps"), [(200, [100, 200, 300]), (0, [300])])
def test_tensorboard_purges_what_came_after_the_checkpoint(tmp_path, start_step, steps):
    for begin, logged in ((0, [100, 200, 250]), (start_step, [300])):
        logger = TensorBoard()
        logger.start(info(tmp_path, begin))
        for step in logged:
            logger.log(step, {"x": step})
        logger.finish("interrupted", {})
    assert [event.step for event in events(tmp_path).Scalars("x")] == steps


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoard().start(info(tmp_path))


# Weights & Biases


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """wandb as on a machine that has never seen it: no settings, credentials, cache or service of its own."""
    import os

    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("prompted"))
    wandb.teardown()
    yield
    wandb.teardown()


def records(path: Path) -> list:
    """The records of a .wandb file: a LevelDB log, 32 KiB blocks of chunks headed by checksum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, found, whole = path.read_bytes(), [], b""
    assert data[:4] == b":W&B"
    position = 7
    while position + 7 <= len(data):
        left = 0x8000 - position % 0x8000
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        assert kind in (1, 2, 3, 4), "full, first, middle, last"
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(whole))
            whole = b""
    return found


def transcript(folder: Path) -> dict:
    """What one run's .wandb file says."""
    (path,) = folder.glob("run-*.wandb")
    told: dict = {"history": {}, "summary": {}, "preempting": False, "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told["run"] = record.run
            told["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            told["history"][items.pop("_step")] = {key: items[key] for key in items if not key.startswith("_")}
        elif kind == "summary":
            for item in record.summary.update:
                told["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "preempting":
            told["preempting"] = True
        elif kind == "exit":
            told["exit"] = record.exit.exit_code
    return told


def offline_folders(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"), key=lambda found: (len(found.name), found.name))


def transcripts(folder: Path) -> list[dict]:
    """One per offline run, in the order of their starts. wandb's service writes on after a finish, so end it first."""
    import wandb

    wandb.teardown()
    return [transcript(found) for found in offline_folders(folder)]


def train(logger: Wandb, run: RunInfo, steps: list[int], status: str) -> None:
    logger.start(run)
    for step in steps:
        logger.log(step, {"train/loss": 1 / step, "test/teacher/error": 0.25})
    if status == "finished":
        logger.pictures(picture(run.folder))
    else:
        logger.pictures({})
    logger.finish(status, {"status": status, "test": {"teacher": {"error": 0.25}}, "gpu": None})


def test_wandb_offline_runs_and_resumes_in_one_process(tmp_path, no_account, capfd, caplog):
    caplog.set_level(logging.INFO)
    logger = Wandb(project="meanteacher", entity=None, mode="offline")
    first, second = tmp_path / "first", tmp_path / "second"
    train(logger, info(first), [100, 200], "interrupted")
    train(logger, info(second, run_id="ffff"), [100], "failed")
    train(logger, info(first, start_step=200), [300], "finished")

    before, after = transcripts(first)
    (other,) = transcripts(second)
    for told, run_id in ((before, "0123abcd"), (after, "0123abcd"), (other, "ffff")):
        run = told["run"]
        assert (run.run_id, run.project, run.run_group) == (run_id, "meanteacher", "quickstart")
        assert run.display_name == "digits-mean_teacher-10-0"
        assert list(run.tags) == ["digits", "mean_teacher"]
        assert run.resume, "a later upload would replace the run instead of going on with it"
        assert told["config"]["method"] == {"ema_decay": 0.99}
        assert told["summary"]["test/teacher/error"] == 0.25

    assert before["history"] == {step: {"train/loss": 1 / step, "test/teacher/error": 0.25} for step in (100, 200)}
    assert (before["exit"], before["preempting"], before["summary"]["status"]) == (1, True, "interrupted")
    assert (other["exit"], other["preempting"], other["summary"]["status"]) == (1, False, "failed")
    assert (after["exit"], after["preempting"], after["summary"]["status"]) == (0, False, "finished")
    assert after["summary"]["gpu"] is None
    assert list(after["history"]) == [300]
    assert after["history"][300]["train/loss"] == 1 / 300
    assert after["history"][300]["plots/curves/_type"] == "image-file"

    said = [record.getMessage() for record in caplog.records if record.name == wb.__name__]
    folders = [*offline_folders(first)[:1], *offline_folders(second), *offline_folders(first)[1:]]
    assert said == [f"wandb is offline (as configured): `wandb sync {folder}` uploads the run" for folder in folders]
    out, err = capfd.readouterr()
    assert "wandb:" not in out + err


def test_wandb_leaves_steps_the_server_has(tmp_path):
    class Run:
        step, logged = 250, []

        def log(self, metrics, step):
            self.logged.append(step)

    logger = Wandb(project="meanteacher", entity=None, mode="online")
    logger._try_online = lambda run: setattr(logger, "_run", Run())
    logger.start(info(tmp_path, start_step=200))
    for step in (225, 250, 300):
        logger.log(step, {"x": 1.0})
    logger.pictures({})
    assert Run.logged == [250, 300]


@pytest.mark.parametrize(("error", "why"), [(TimeoutError(), "(TimeoutError)"), (TimeoutError("late\nvery"), "(late)")])
def test_wandb_late_answers_are_no_answers(tmp_path, no_account, monkeypatch, caplog, error, why):
    def late(*_, **__):
        raise error

    monkeypatch.setattr("wandb.login", late)
    caplog.set_level(logging.INFO)
    logger = Wandb(project="meanteacher", entity=None, mode="online")
    logger.start(info(tmp_path))
    monkeypatch.setattr(logger._run, "finish", late)
    logger.finish("finished", {})
    started, finished = [record.getMessage() for record in caplog.records if record.name == wb.__name__]
    assert why in started
    assert f"wandb sync --include-online {offline_folders(tmp_path)[0]}" in finished


def test_wandb_auto_without_credentials_is_offline(tmp_path, no_account, caplog):
    caplog.set_level(logging.INFO)
    train(Wandb(project="meanteacher", entity=None, mode="auto"), info(tmp_path), [100], "finished")
    assert [list(told["history"]) for told in transcripts(tmp_path)] == [[100]]
    assert [message for message in caplog.messages if "no credentials found" in message]


@pytest.mark.parametrize(("source", "attempts"), [("environment", 2), ("netrc", 1), ("malformed", 1)])
def test_wandb_without_network_is_offline(tmp_path, no_account, monkeypatch, caplog, capfd, source, attempts):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    if source == "netrc":
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9\n  login user\n  password {'a1' * 20}\n")
    else:
        monkeypatch.setenv("WANDB_API_KEY", "a1" * 20 if source == "environment" else "short")
    monkeypatch.setattr(wb, "INIT_TIMEOUT", 1)
    caplog.set_level(logging.INFO)
    mode = "online" if source == "environment" else "auto"
    for start_step, steps in ((0, [100]), (100, [200]))[:attempts]:
        train(Wandb(project="meanteacher", entity=None, mode=mode), info(tmp_path, start_step), steps, "finished")
    assert [list(told["history"]) for told in transcripts(tmp_path)] == [[100], [200]][:attempts]
    said = [record.getMessage() for record in caplog.records if record.name == wb.__name__]
    why = "API key must have 40+ characters" if source == "malformed" else "Failed to get resume status"
    assert len(said) == attempts and all(why in line and "wandb sync" in line and "\n" not in line for line in said)
    out, err = capfd.readouterr()
    assert "wandb:" not in out + err


@pytest.mark.parametrize(("mode", "variable"), [("disabled", "offline"), ("auto", "disabled"), ("auto", "offline")])
def test_wandb_mode_and_its_variable(tmp_path, no_account, monkeypatch, mode, variable):
    monkeypatch.setenv("WANDB_MODE", variable)
    train(Wandb(project="meanteacher", entity=None, mode=mode), info(tmp_path), [100], "finished")
    assert len(offline_folders(tmp_path)) == (mode == "auto" and variable == "offline")


def test_wandb_says_what_is_wrong_with_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(UserError, match="WANDB_MODE=nonsense"):
        Wandb(project="meanteacher", entity=None, mode="auto").start(info(tmp_path))


def test_wandb_says_what_is_wrong_with_a_project(tmp_path, no_account):
    with pytest.raises(UserError, match="project name 'a/b'"):
        Wandb(project="a/b", entity=None, mode="offline").start(info(tmp_path))

"""What is recorded in Weights & Biases, read from the files of offline runs."""

import json
import logging
import socket
import struct
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_loggers import info, picture

from meanteacher.config.errors import UserError
from meanteacher.loggers import RunInfo
from meanteacher.loggers import weights_and_biases as wb
from meanteacher.loggers.guarded import Guarded
from meanteacher.loggers.weights_and_biases import Wandb


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """wandb as on a machine that has never used it: without settings, credentials, cache or service."""
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

    data, parsed, record = path.read_bytes(), [], b""
    assert data[:4] == b":W&B"
    position = 7
    while position + 7 <= len(data):
        left_in_block = 0x8000 - position % 0x8000
        if left_in_block < 7:
            position += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        assert kind in (1, 2, 3, 4), "full, first, middle, last"
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            parsed.append(Record.FromString(record))
            record = b""
    return parsed


def read_run(folder: Path) -> dict:
    """The content of the .wandb file of a run."""
    (path,) = folder.glob("run-*.wandb")
    content: dict = {"history": {}, "summary": {}, "preempting": False, "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            content["run"] = record.run
            content["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            content["history"][items.pop("_step")] = {key: items[key] for key in items if not key.startswith("_")}
        elif kind == "summary":
            for item in record.summary.update:
                content["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "preempting":
            content["preempting"] = True
        elif kind == "exit":
            content["exit"] = record.exit.exit_code
    return content


def offline_folders(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"), key=lambda path: (len(path.name), path.name))


def read_offline_runs(folder: Path) -> list[dict]:
    """The offline runs in the order of their starts. Ends wandb's service first, which writes even after a finish."""
    import wandb

    wandb.teardown()
    return [read_run(path) for path in offline_folders(folder)]


def train(logger: Wandb, run: RunInfo, steps: list[int], status: str) -> None:
    logger.start(run)
    for step in steps:
        logger.log(step, {"train/loss": 1 / step, "test/teacher/error": 0.25})
    if status == "finished":
        logger.log_pictures(picture(run.folder))
    else:
        logger.log_pictures({})
    logger.finish(status, {"status": status, "test": {"teacher": {"error": 0.25}}, "gpu": None})


def test_wandb_offline_runs_and_resumes_in_one_process(tmp_path, no_account, capfd, caplog):
    caplog.set_level(logging.INFO)
    logger = Wandb(project="meanteacher", entity=None, mode="offline")
    first, second = tmp_path / "first", tmp_path / "second"
    train(logger, info(first), [100, 200], "interrupted")
    train(logger, info(second, run_id="ffff"), [100], "failed")
    train(logger, info(first, start_step=200), [300], "finished")

    before, after = read_offline_runs(first)
    (other,) = read_offline_runs(second)
    for content, run_id in ((before, "0123abcd"), (after, "0123abcd"), (other, "ffff")):
        run = content["run"]
        assert (run.run_id, run.project, run.run_group) == (run_id, "meanteacher", "quickstart")
        assert run.display_name == "digits-mean_teacher-10-0"
        assert list(run.tags) == ["digits", "mean_teacher"]
        assert run.resume, "a later upload would replace the run instead of going on with it"
        assert content["config"]["method.teacher.decay"] == 0.99
        assert content["summary"]["test/teacher/error"] == 0.25

    assert before["history"] == {step: {"train/loss": 1 / step, "test/teacher/error": 0.25} for step in (100, 200)}
    assert (before["exit"], before["preempting"], before["summary"]["status"]) == (1, True, "interrupted")
    assert (other["exit"], other["preempting"], other["summary"]["status"]) == (1, False, "failed")
    assert (after["exit"], after["preempting"], after["summary"]["status"]) == (0, False, "finished")
    assert after["summary"]["gpu"] is None
    assert list(after["history"]) == [300]
    assert after["history"][300]["train/loss"] == 1 / 300
    assert after["history"][300]["plots/curves/_type"] == "image-file"

    messages = [record.getMessage() for record in caplog.records if record.name == wb.__name__]
    folders = [*offline_folders(first)[:1], *offline_folders(second), *offline_folders(first)[1:]]
    assert messages == [
        f"wandb is offline (as configured): `wandb sync {folder}` uploads the run" for folder in folders
    ]
    out, err = capfd.readouterr()
    assert "wandb:" not in out + err


def test_wandb_skips_steps_that_the_server_already_has(tmp_path):
    class Run:
        step, logged = 250, []

        def log(self, metrics, step):
            self.logged.append(step)

    logger = Wandb(project="meanteacher", entity=None, mode="online")
    logger._try_online = lambda run: setattr(logger, "_run", Run())
    logger.start(info(tmp_path, start_step=200))
    for step in (225, 250, 300):
        logger.log(step, {"x": 1.0})
    logger.log_pictures({})
    assert Run.logged == [250, 300]


@pytest.mark.parametrize(("error", "why"), [(TimeoutError(), "(TimeoutError)"), (TimeoutError("late\nvery"), "(late)")])
def test_wandb_continues_offline_if_the_server_answers_too_late(tmp_path, no_account, monkeypatch, caplog, error, why):
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


def test_wandb_auto_is_offline_without_credentials(tmp_path, no_account, caplog):
    caplog.set_level(logging.INFO)
    train(Wandb(project="meanteacher", entity=None, mode="auto"), info(tmp_path), [100], "finished")
    assert [list(content["history"]) for content in read_offline_runs(tmp_path)] == [[100]]
    assert [message for message in caplog.messages if "no credentials found" in message]


@pytest.mark.parametrize(("source", "attempts"), [("environment", 2), ("netrc", 1), ("malformed", 1)])
def test_wandb_is_offline_without_a_network(tmp_path, no_account, monkeypatch, caplog, capfd, source, attempts):
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
    assert [list(content["history"]) for content in read_offline_runs(tmp_path)] == [[100], [200]][:attempts]
    messages = [record.getMessage() for record in caplog.records if record.name == wb.__name__]
    why = "API key must have 40+ characters" if source == "malformed" else "Failed to get resume status"
    assert len(messages) == attempts
    assert all(why in line and "wandb sync" in line and "\n" not in line for line in messages)
    out, err = capfd.readouterr()
    assert "wandb:" not in out + err


def test_wandb_continues_offline_with_a_server_that_accepts_and_is_silent(tmp_path, no_account, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "a1" * 20)
        monkeypatch.setattr(wb, "INIT_TIMEOUT", 1)
        caplog.set_level(logging.INFO)
        began = time.monotonic()
        train(Wandb(project="meanteacher", entity=None, mode="online"), info(tmp_path), [100], "finished")
        assert time.monotonic() - began < 20
    assert [list(content["history"]) for content in read_offline_runs(tmp_path)] == [[100]]
    assert "wandb is offline (" in caplog.text


def test_the_run_goes_on_if_wandbs_process_is_killed(tmp_path, no_account, caplog):
    """What was logged before is on disk, and neither the end of the run nor that of the process fails."""

    logger = Guarded(Wandb(project="meanteacher", entity=None, mode="offline"))
    logger.start(info(tmp_path))
    logger.log(100, {"train/loss": 1.0})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not any(path.stat().st_size for path in tmp_path.rglob("*.wandb")):
        time.sleep(0.05)
    for child in psutil.Process().children():
        if child.name().startswith("wandb-core"):
            child.kill()
            child.wait()
    for step in range(200, 220):
        logger.log(step, {"train/loss": 1.0})
        time.sleep(0.02)
    logger.finish("finished", {"status": "finished"})
    assert caplog.text.count("Wandb failed and records nothing from here on") == 1
    assert offline_folders(tmp_path) and not any(c.name().startswith("wandb") for c in psutil.Process().children())


@pytest.mark.parametrize("fault", ["absent", "not a folder", "address"])
def test_wandb_that_cannot_start_is_left_out(tmp_path, no_account, monkeypatch, caplog, capfd, fault):
    if fault == "absent":
        monkeypatch.setitem(sys.modules, "wandb", None)
    elif fault == "address":
        monkeypatch.setenv("WANDB_BASE_URL", "not an address")
    folder = info(tmp_path)
    if fault == "not a folder":
        (tmp_path / "wandb").write_text("")
    logger = Guarded(Wandb(project="meanteacher", entity=None, mode="offline"))
    train(logger, folder, [100], "finished")
    assert caplog.text.count("Wandb failed and records nothing from here on: ") == 1
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("mode", "variable"), [("disabled", "offline"), ("auto", "disabled"), ("auto", "offline")])
def test_wandb_mode_overrides_the_environment_variable(tmp_path, no_account, monkeypatch, mode, variable):
    monkeypatch.setenv("WANDB_MODE", variable)
    train(Wandb(project="meanteacher", entity=None, mode=mode), info(tmp_path), [100], "finished")
    assert len(offline_folders(tmp_path)) == (mode == "auto" and variable == "offline")


def test_wandb_refuses_an_invalid_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(UserError, match="WANDB_MODE=nonsense"):
        Wandb(project="meanteacher", entity=None, mode="auto").start(info(tmp_path))


def test_wandb_refuses_an_invalid_project(tmp_path, no_account):
    with pytest.raises(UserError, match="project name 'a/b'"):
        Wandb(project="a/b", entity=None, mode="offline").start(info(tmp_path))

"""The loggers: what they write for runs that finish, stop, resume or fail."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from meanteacher.config.errors import UserError
from meanteacher.loggers import RunInfo
from meanteacher.loggers.jsonl import Jsonl
from meanteacher.loggers.progress import Progress
from meanteacher.loggers.tensorboard import TensorBoard


def info(folder: Path, start_step: int = 0, run_id: str = "0123abcd", history: tuple = ()) -> RunInfo:
    folder.mkdir(parents=True, exist_ok=True)
    return RunInfo(
        folder=folder,
        id=run_id,
        config={"method": {"teacher": {"decay": 0.99}}, "steps": 300},
        group="quickstart",
        name="digits-mean_teacher-10-0",
        tags=["digits", "mean_teacher"],
        steps=300,
        start_step=start_step,
        history=history,
    )


def picture(folder: Path) -> dict[str, Path]:
    from PIL import Image

    path = folder / "curves.png"
    Image.new("RGB", (12, 8), (255, 0, 0)).save(path)
    return {"plots/curves": path}


def test_modules_are_cheap_to_import():
    modules = [f"meanteacher.loggers.{name}" for name in ("jsonl", "progress", "tensorboard", "weights_and_biases")]
    code = f"import sys, {', '.join(modules)}, meanteacher.runs.plots; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"wandb", "torch", "matplotlib", "tqdm", "sklearn", "tensorboard"} & set(loaded)


# Closing


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_jsonl_writes_a_line_per_call_immediately(tmp_path):
    logger = Jsonl()
    logger.start(info(tmp_path))
    logger.log(100, {"train/loss": 0.5})
    assert lines(tmp_path) == [{"step": 100, "train/loss": 0.5}], "not flushed"
    logger.log(200, {"test/student/error": 0.25, "test/teacher/error": 0.125})
    logger.finish("finished", {})
    assert lines(tmp_path)[1] == {"step": 200, "test/student/error": 0.25, "test/teacher/error": 0.125}


def test_jsonl_writes_valid_json_for_every_value(tmp_path):
    logger = Jsonl()
    logger.start(info(tmp_path))
    logger.log(1, {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 1.0})
    logger.finish("failed", {})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "a": None, "b": None, "c": None, "d": 1.0}


def test_jsonl_resumes_after_the_last_complete_line_up_to_its_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 100, "x": 1}\n'
        b"\xff not json\n"
        b"7\n"
        b'{"x": 3}\n'
        b'{"step": 200, "x": 2}\n'
        b'{"step": 300, "x": 3}\n'
        b'{"step": 150, "x": 9}'  # killed while writing: valid JSON by chance, but without a line end
    )
    logger = Jsonl()
    logger.start(info(tmp_path, start_step=200))
    logger.log(300, {"x": 4})
    logger.finish("finished", {})
    assert lines(tmp_path) == [{"step": 100, "x": 1}, {"step": 200, "x": 2}, {"step": 300, "x": 4}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


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


def test_progress_logs_a_line_per_evaluation(tmp_path, caplog, monkeypatch):
    clock = iter([0.0, 30.0])
    monkeypatch.setattr("meanteacher.loggers.progress.time.monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "meanteacher")
    logger = Progress()
    logger.start(info(tmp_path, start_step=50))
    logger.log(100, {"train/loss": 0.4119, "train/images_per_second": 8123.4})
    assert not caplog.messages
    logger.log(200, evaluation())
    logger.log_pictures(picture(tmp_path))
    logger.finish("finished", {})
    assert caplog.messages == ["step 200/300 · loss 0.412 · student 21.4 % · teacher 17.9 % · 8123 img/s · ETA 0:20"]


def test_progress_shows_every_network_and_part(tmp_path, caplog):
    caplog.set_level(logging.INFO, "meanteacher")
    logger = Progress()
    logger.start(info(tmp_path, start_step=100))
    logger.log(100, {**evaluation("average"), "validation/student/error": 0.3})
    assert caplog.messages == ["step 100/300 · student 21.4 % · average 17.9 % · validation student 30.0 %"]


def test_lost_lines_are_written_again_from_the_history(tmp_path):
    history = ({"step": 50, "train/loss": 0.5}, {"step": 100, "train/loss": float("nan")})
    (tmp_path / "metrics.jsonl").write_text('{"step": 50, "train/loss": 0.5}\n{"step": 100, "train')
    logger = Jsonl()
    logger.start(info(tmp_path, start_step=100, history=history))
    logger.finish("interrupted", {})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 50, "train/loss": 0.5}, {"step": 100, "train/loss": None}]


@pytest.mark.parametrize(("seconds", "shown"), [(0.1, "ETA 0:10"), (1, "ETA 1:40"), (40, "ETA 1:06:40")])
def test_progress_estimates_the_remaining_time(tmp_path, caplog, monkeypatch, seconds, shown):
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
    logger.on_step(200)
    logger.log(200, {"train/loss": 0.4119, "train/images_per_second": 8123.4, **evaluation()})
    logging.getLogger("meanteacher.training.trainer").info("a line from elsewhere")
    logger._bar.refresh()
    logger.finish("finished", {})
    shown = capsys.readouterr().err
    assert "200/300" in shown
    assert "loss 0.412 · student 21.4 % · teacher 17.9 % · 8123 img/s" in shown
    assert "step 200/300" not in shown, "there are lines besides the bar"
    assert "\ra line from elsewhere\n" in shown
    assert log.handlers == [handler], "the handlers were not restored"


# TensorBoard


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_tensorboard_records_scalars_and_pictures(tmp_path):
    logger = TensorBoard()
    logger.start(info(tmp_path))
    logger.log(100, {"train/loss": 0.5, "test/teacher/error": 0.25})
    logger.log(200, {"train/loss": 0.25})
    logger.log_pictures(picture(tmp_path))
    logger.finish("finished", {})
    recorded = events(tmp_path)
    assert [(event.step, event.value) for event in recorded.Scalars("train/loss")] == [(100, 0.5), (200, 0.25)]
    assert [(event.step, event.value) for event in recorded.Scalars("test/teacher/error")] == [(100, 0.25)]
    (image,) = recorded.Images("plots/curves")
    assert (image.step, image.width, image.height) == (200, 12, 8)


@pytest.mark.parametrize(("start_step", "steps"), [(200, [100, 200, 300]), (0, [300])])
def test_tensorboard_purges_what_was_logged_after_the_checkpoint(tmp_path, start_step, steps):
    for begin, logged_steps in ((0, [100, 200, 250]), (start_step, [300])):
        logger = TensorBoard()
        logger.start(info(tmp_path, begin))
        for step in logged_steps:
            logger.log(step, {"x": step})
        logger.finish("interrupted", {})
    assert [event.step for event in events(tmp_path).Scalars("x")] == steps


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoard().start(info(tmp_path))

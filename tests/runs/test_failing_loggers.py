"""Loggers, pictures and pages that fail do not end a run, and loggers are closed however the run ends."""

import pytest
from short_runs import go, history

from meanteacher.config.errors import UserError
from meanteacher.loggers import Logger
from meanteacher.runs import plots, run_page
from meanteacher.runs.result import Result
from meanteacher.runs.session import Session


class Failing(Logger):
    """Records the calls of its methods, and fails in the one that is called `name`."""

    def __init__(self, name: str):
        self.calls = []
        for method in ("start", "on_step", "log", "log_pictures", "finish"):
            setattr(self, method, lambda *arguments, method=method: self.call(method, method == name))

    def call(self, method: str, fails: bool) -> None:
        self.calls.append(method)
        if fails:
            raise BrokenPipeError("its process was killed")


class Recorder(Logger):
    """Records the statuses that loggers are closed with."""

    closed: list[str] = []

    def finish(self, status, summary):
        Recorder.closed.append(status)


@pytest.mark.parametrize("name", ["start", "on_step", "log", "log_pictures", "finish"])
def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(name, tmp_path, monkeypatch, caplog):
    logger, real = Failing(name), Session.build_loggers
    monkeypatch.setattr(Session, "build_loggers", lambda self, show: [*real(self, show), logger])
    result = go(tmp_path / "run")
    assert result.status == "finished" and len(history(tmp_path / "run")) > 2
    assert caplog.text.count("Failing failed and records nothing from here on: its process was killed\n") == 1
    assert logger.calls.count(name) == 1 and logger.calls[-1] == ("start" if name == "start" else "finish")


def test_a_logger_that_fails_at_the_end_does_not_keep_the_others_open(tmp_path, monkeypatch, caplog):
    class Failing(Logger):
        def finish(self, status, summary):
            raise ConnectionError("gone")

    Recorder.closed = []
    monkeypatch.setattr(Session, "build_loggers", lambda self, show: [Failing(), Recorder()])
    result = go(tmp_path / "run")
    assert Result.read(tmp_path / "run" / "result.json") == result and result.status == "finished"
    assert Recorder.closed == ["finished"] and "Failing failed and records nothing from here on: gone" in caplog.text


def test_loggers_are_closed_as_failed_if_training_fails(tmp_path, monkeypatch):
    Recorder.closed = []
    monkeypatch.setattr(Session, "build_loggers", lambda self, show: [Recorder()])
    with pytest.raises(UserError, match="not finite"):
        go(tmp_path / "run", "optimizer.lr=1e30", "trainer.log_every=1")
    assert Recorder.closed == ["failed"]


def test_a_picture_or_page_that_fails_leaves_the_run_finished_and_its_loggers_closed(tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise ValueError("no canvas")

    Recorder.closed = []
    monkeypatch.setattr(plots, "confusion_matrix", fail)
    monkeypatch.setattr(run_page, "render", lambda *template, **content: fail())
    monkeypatch.setattr(Session, "build_loggers", lambda self, show: [Recorder(), Recorder()])
    assert go(tmp_path / "run").status == "finished" and Recorder.closed == ["finished"] * 2
    for name in ("confusion.png", "report.html"):
        assert f"{name} could not be drawn: no canvas" in caplog.text
    assert not (tmp_path / "run/report.html").exists()
    assert {path.name for path in (tmp_path / "run/plots").iterdir()} == {"curves.png", "labeled.png", "views.png"}

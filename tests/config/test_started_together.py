"""An error of processes that torchrun has started together is told by the main one, and is in torchrun's report."""

import time

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from meanteacher.config import started_together
from meanteacher.config.errors import LostProcess, UserError
from meanteacher.runs import train


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(started_together, "GRACE_SECONDS", 0.5)


@pytest.mark.parametrize(
    ("rank", "error", "waits"),
    [("0", UserError("bad"), False), ("1", UserError("bad"), True), ("1", LostProcess("gone"), False)],
)
def test_the_main_process_is_given_time_to_tell_an_error(rank, error, waits, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    began = time.monotonic()
    started_together.leave_to_main_process(error)
    assert (time.monotonic() - began >= 0.5) == waits


def test_torchrun_reads_the_line_of_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(UserError):
        train.main(["+foo=1"])
    failure = ProcessFailure(0, 1, 1, str(tmp_path / "error.json"))
    assert failure.message["message"].startswith("+foo=1: keys cannot be added or removed; ")
    assert failure.message["extraInfo"]["py_callstack"] == failure.message["message"]


@pytest.mark.parametrize(("rank", "printed"), [("0", ""), ("1", "error: bad\n")])
def test_an_error_of_a_run_is_printed_by_another_process_only_if_it_is_alone_with_it(
    rank, printed, monkeypatch, capsys
):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train, "failures", [UserError("bad")])
    monkeypatch.setattr(train, "start", lambda arguments: None)
    assert train.main([]) == 1 and capsys.readouterr().err == printed
    train.failures[:] = [LostProcess("gone")]
    assert train.main([]) == 1 and capsys.readouterr().err == ""

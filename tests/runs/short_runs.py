"""Runs of six steps in the process of the test, and what they log."""

import json

import pytest
from conftest import TINY, parsed

from meanteacher.config import composing
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.runs import run, run_files
from meanteacher.training.train_step import TrainStep


def go(path, *overrides):
    """One run in this process, in the folder `path`."""
    chosen = dict(o.split("=") for o in overrides if o.partition("=")[0] in composing.GROUPS)
    choices = Choices(**{"dataset": "digits", "method": "m"} | chosen)
    return run.run(parsed(*TINY, *overrides), choices, path, "python run.py")


def go_until_an_error(path):
    """A run that is saved after step 3 of 6 and then ends with an error."""
    original = TrainStep.__call__

    def fail_in_step_5(self, step):
        if step == 4:
            raise UserError("stopped")
        original(self, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError):
        patch.setattr(TrainStep, "__call__", fail_in_step_5)
        go(path, "trainer.checkpoint_minutes=0.0000001")


def history(path):
    """The records of metrics.jsonl."""
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def leave_out_pictures(monkeypatch):
    """Let finished runs write neither pictures nor a page, which take longer than a short run."""
    monkeypatch.setattr(run_files, "draw", lambda session: {})
    monkeypatch.setattr(run_files, "write_page", lambda session, result, path: None)

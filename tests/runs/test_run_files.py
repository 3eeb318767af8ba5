"""Files that a finished run has lost: the same command writes what follows from the others, and tells what does not."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import command_of_finished_run, parsed

from meanteacher.config.settings import Choices
from meanteacher.runs import run
from meanteacher.runs.result import Result

FILES = ("split.json", "metrics.jsonl", "inference.json", "report.html", "checkpoint.pt")


@pytest.fixture
def again(tmp_path, finished_run, caplog):
    """Calls the command of a copy of `finished_run` without these files; returns the copy, what it holds, and the log.

    before: called with the copy first.
    """
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)

    def call(*lost: str, before=lambda folder: None) -> tuple[Path, list[str], str]:
        before(folder)
        for name in lost:
            (folder / name).unlink()
        settings, choices = parsed(*command_of_finished_run(finished_run.parent)), Choices(method="mean_teacher")
        with caplog.at_level("INFO", "meanteacher"):
            assert run.run(settings, choices, folder, "python run.py").status == "finished"
        return folder, [name for name in FILES if (folder / name).exists()], caplog.text

    return call


def without_speed(path: Path) -> list[dict]:
    records = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in record.items() if name != "train/images_per_second"} for record in records]


def test_lost_metrics_and_split_are_written_again_and_nothing_else_is(again, finished_run):
    folder, held, log = again("split.json", "metrics.jsonl")
    assert tuple(held) == FILES and "added split.json, metrics.jsonl\n" in log and "WARNING" not in log
    assert (folder / "split.json").read_text() == (finished_run / "split.json").read_text()
    assert without_speed(folder) == without_speed(finished_run) != []
    for name in ("result.json", "checkpoint.pt", "inference.json", "report.html", "plots/curves.png"):
        assert (folder / name).read_bytes() == (finished_run / name).read_bytes(), name


def test_a_complete_run_is_only_reported(again):
    _, held, log = again()
    assert tuple(held) == FILES and "added" not in log and "WARNING" not in log


def test_what_a_lost_checkpoint_held_is_told(again):
    _, held, log = again("split.json", "metrics.jsonl", "checkpoint.pt")
    assert held == ["split.json", "inference.json", "report.html"] and "added split.json\n" in log
    reason = "(its last checkpoint is missing); fresh=true repeats the run"
    assert f"metrics.jsonl, checkpoint.pt cannot be added to this run {reason}" in log


def test_a_split_of_other_labels_is_not_added(again):
    def change(folder: Path) -> None:
        result = Result.read(folder / "result.json")
        result.replace(split_digest="0123456789").write(folder / "result.json")

    _, held, log = again("split.json", before=change)
    assert "split.json" not in held
    assert "split.json cannot be added to this run (its settings choose other labeled images now); fresh" in log

"""The progress of a sweep, read from run folders, and the best run so far."""

import json
import os
from pathlib import Path

import pytest
from conftest import parsed

from meanteacher.comparison.command import compare
from meanteacher.config.settings import Choices
from meanteacher.runs.result import Result, Scores
from meanteacher.runs.run_dir import RunDir
from meanteacher.sweeps.progress import SweepProgress, describe_best
from meanteacher.sweeps.sweep import Job, Sweep


def make_jobs(folder: Path, *statuses: str | None) -> list[Job]:
    """Jobs of 100 steps, one per status, with a run folder each; None: not started."""
    settings = parsed("experiment=quickstart", "method=supervised", "label=20", "steps=100")
    jobs = []
    for seed, status in enumerate(statuses):
        job = Job(
            overrides=[f"seed={seed}"],
            folder=folder / f"run-{seed}",
            settings=settings.replace({"seed": seed}),
            choices=Choices(dataset="digits", method="supervised"),
        )
        if status:
            job.folder.mkdir(parents=True, exist_ok=True)
            make_result(seed, 0.5, 0.3 - seed / 10, status=status).write(job.folder / "result.json")
            (job.folder / "metrics.jsonl").write_text('{"step": 10}\n{"step": 50}\n')
        jobs.append(job)
    return jobs


def make_result(seed: int, student: float, average: float, **fields) -> Result:
    """The result of a supervised run with these test errors of its two networks."""
    known = {
        "status": "finished",
        "digest": "0123456789",
        "command": "c",
        "choices": {"dataset": "digits", "method": "supervised"},
        "source": "aaaa",
        "label": 20,
        "seed": seed,
        "split_seed": seed,
        "wall_seconds": 100.0 + seed,
        "models": {"student": Scores(error_last=student), "average": Scores(error_last=average)},
    }
    return Result(**known | fields)


def make_sweep(folder: Path, jobs: list[Job]) -> Sweep:
    return Sweep(name="s", command="c", output=folder, jobs=jobs)


def test_the_best_run_is_chosen_on_validation_images_if_there_are_any():
    results = [
        make_result(seed, test, test, validation={"student": Scores(error_last=validation)}, models=models(test))
        for seed, test, validation in [(0, 0.1, 0.4), (1, 0.2, 0.3)]
    ]
    assert describe_best(results) == "best 30.0 % on validation images (supervised, 20 labels, seed 1)"


def models(error: float) -> dict[str, Scores]:
    return {"student": Scores(error_last=error)}


WORSE_AVERAGE = [(0, 0.315, 0.415), (1, 0.32, 0.31)]
"""Seed, error of the student, error of the average. Over both seeds the student is better, so it is judged."""


def test_the_best_run_is_judged_by_the_same_network_as_in_the_table():
    results = [make_result(*errors) for errors in WORSE_AVERAGE]
    assert describe_best(results) == "best 31.5 % (supervised, 20 labels, seed 0)"


@pytest.mark.parametrize("errors", [WORSE_AVERAGE, WORSE_AVERAGE[:1], WORSE_AVERAGE[1:]])
def test_the_best_error_is_the_number_in_the_table_of_the_comparison(tmp_path, errors):
    settings = parsed("experiment=quickstart", "method=supervised", "label=20").as_dict()
    results = []
    for seed, student, average in errors:
        results.append(make_result(seed, student, average, settings=settings | {"seed": seed}))
        (tmp_path / f"run-{seed}").mkdir()
        results[-1].write(tmp_path / f"run-{seed}" / "result.json")
    rows = json.loads(compare([tmp_path], tmp_path / "out").files["comparison.json"].read_text())["runs"]
    best = min((row for row in rows if row["deployed"]), key=lambda row: row["error_last"])
    assert (
        describe_best(results) == f"best {100 * best['error_last']:.1f} % (supervised, 20 labels, seed {best['seed']})"
    )


def test_progress_counts_runs_and_estimates_the_remaining_time(tmp_path, capsys):
    finished, missing = make_jobs(tmp_path / "a", "finished"), make_jobs(tmp_path / "b", None, None, None, None)
    progress = SweepProgress(make_sweep(tmp_path, finished + missing), {job.folder: 10.0 for job in missing})
    progress.started -= 60
    assert progress.read_share_done() == 0
    assert progress.describe(0).startswith("1/5 runs done · 0 running · 0 failed · best 30.0 % (supervised, 20")
    make_jobs(tmp_path / "b", "finished", "running", "failed")
    share = progress.read_share_done()
    assert share == pytest.approx((10 + 5 + 10) / 40)
    line = progress.describe(share)  # 60 s · (1 − .625) / .625 = 36 s
    assert line.startswith("2/5 runs done · 1 running · 1 failed · ETA 0:3")
    progress.show()
    progress.show()
    assert capsys.readouterr().err.count("sweep") == 1, "the same state was printed twice"


def test_an_earlier_failure_is_not_counted_before_the_run_is_repeated(tmp_path):
    (job,) = make_jobs(tmp_path, "failed")
    os.utime(job.folder / "result.json", (1, 1))
    progress = SweepProgress(make_sweep(tmp_path, [job]), {job.folder: 1.0})
    assert progress.read_share_done() == 0 and "0 failed" in progress.describe(0)


def test_a_failure_elsewhere_is_told_once_for_each_attempt(tmp_path, caplog):
    (job,) = make_jobs(tmp_path, None)
    progress = SweepProgress(make_sweep(tmp_path, [job]), {job.folder: 1.0}, tell_failures=True)
    job.folder.mkdir()
    for attempt in (1, 1, 2):
        result = make_result(0, 0.5, 0.4, status="failed", reason="disk full", attempts=attempt)
        result.write(job.folder / "result.json")
        progress.read_share_done()
    assert caplog.text.count(f"error: {job.folder}: disk full") == 2
    make_result(0, 0.5, 0.4, status="running").write(job.folder / "result.json")
    progress.read_share_done()
    assert "1 running · 0 failed" in progress.describe(0.5)


def test_a_killed_run_is_not_counted_as_running(tmp_path):
    (job,) = make_jobs(tmp_path, None)
    progress = SweepProgress(make_sweep(tmp_path, [job]), {job.folder: 1.0})
    with RunDir(job.folder, "0123456789", fresh=False):
        make_jobs(tmp_path, "running")
        assert progress.read_share_done() == 0.5 and "1 running" in progress.describe(0.5)
    assert progress.read_share_done() == 0 and "0 running" in progress.describe(0)

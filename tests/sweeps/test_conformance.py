"""What a sweep promises when it is changed, started twice or when runs fail; see docs/sweeps_conformance.md."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONF, ROOT, TINY, command
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from test_progress import make_result

from meanteacher.config.errors import UserError
from meanteacher.runs.on_failure import OnFailure, stop_file
from meanteacher.sweeps.changes import describe_changes
from meanteacher.sweeps.grid import Grid
from meanteacher.sweeps.sweep import Job, Sweep

QUICK = [*TINY, "method=supervised", "label=20", "hydra/launcher=basic"]


KILLED = OSError("a worker was killed")


class Launcher:
    """Gives each job its next status: `finished`, `failed`, `running`, None (not started), or an error to raise."""

    def __init__(self, sweep: Sweep, statuses: dict[int, list]):
        self.sweep, self.statuses = sweep, statuses
        self.calls: list[tuple[list[int], str]] = []

    def launch(self, overrides: list[list[str]], initial_job_idx: int) -> list:
        jobs = {tuple(job.overrides): job for job in self.sweep.jobs}
        launched = [(jobs[tuple(job[:-2])], job[-1].rpartition("=")[2]) for job in overrides]
        self.calls.append(([job.settings.seed for job, _ in launched], launched[0][1]))
        for job, _ in launched:
            status = self.statuses[job.settings.seed].pop(0)
            if isinstance(status, Exception):
                raise status
            if status:
                self.write(job, status)
        return []

    def write(self, job: Job, status: str) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if status == "stop":
            stop_file(self.sweep.folder).touch()
            status = "failed"
        make_result(job.settings.seed, 0.5, 0.4, status=status).write(job.folder / "result.json")


def sweeper_and_sweep(folder: Path, *arguments: str) -> tuple[Grid, Sweep]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        chosen = [*QUICK, f"output={folder}", *arguments]
        config = hydra.compose_config("config", chosen, run_mode=RunMode.MULTIRUN, from_shell=False)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=None)
        sweeper = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=None)
        sweep = sweeper.plan(list(config.hydra.overrides.task))
    sweep.write()
    return sweeper, sweep


BOTH = ([0, 1], "skip")
"""The first call of the launcher: all jobs, which leave out runs that another process trains."""


@pytest.mark.parametrize(
    ("on_failure", "statuses", "calls", "finished"),
    [
        ("continue", {0: ["failed"], 1: ["finished"]}, [BOTH], {1}),
        ("continue", {0: ["running", "finished"], 1: ["finished"]}, [BOTH, ([0], "wait")], {0, 1}),
        ("continue", {0: [KILLED, "finished"], 1: ["finished"]}, [BOTH, ([0, 1], "wait")], {0, 1}),
        ("stop", {0: ["stop"], 1: [None]}, [BOTH], set()),
        ("retry:2", {0: ["failed", "failed", "finished"], 1: ["finished"]}, [BOTH, *[([0], "wait")] * 2], {0, 1}),
        ("retry:1", {0: ["failed"] * 2, 1: ["failed", "finished"]}, [BOTH, ([0, 1], "wait")], {1}),
    ],
)
def test_what_follows_when_a_run_fails_or_runs_elsewhere(on_failure, statuses, calls, finished, tmp_path):
    sweeper, sweep = sweeper_and_sweep(tmp_path, "seed=0,1", f"hydra.sweeper.on_failure={on_failure}")
    stop_file(sweep.folder).touch()  # of an earlier start, which does not count
    sweeper.launcher = Launcher(sweep, copy.deepcopy(statuses))
    sweeper.launch(sweep)
    assert sweeper.launcher.calls == calls
    assert {0, 1} - {job.settings.seed for job in sweep.unfinished()} == finished
    if len(finished) < 2:
        with pytest.raises(UserError, match=("^stopped at a failed run: " if on_failure == "stop" else "^[12] of 2")):
            sweeper.report_missing(sweep)


@pytest.mark.parametrize("text", ["retry", "retry:0", "retry:-1", "ignore", "stop:2"])
def test_another_policy_is_refused(text):
    with pytest.raises(UserError, match="must be continue, stop or retry:n"):
        OnFailure.parse(text)


def test_a_changed_configuration_is_told_and_the_earlier_sweep_is_kept(tmp_path):
    _, first = sweeper_and_sweep(tmp_path, "seed=0,1")
    assert describe_changes(first) == []
    for job in first.jobs:
        job.folder.mkdir(parents=True)
        result = make_result(job.settings.seed, 0.5, 0.4, settings=job.settings.as_dict())
        result.write(job.folder / "result.json")
    written = (first.folder / "sweep.json").read_bytes()
    more = plan_only(tmp_path, "seed=0,1,2")
    assert describe_changes(more) == [f"since {first.id}, which is kept: 2 of these 3 runs are also in it"]
    other = plan_only(tmp_path, "seed=0,1", "optimizer.lr=0.5", "trainer.labeled_batch=10")
    assert describe_changes(other) == [
        f"since {first.id}, which is kept: 0 of these 2 runs are also in it",
        "optimizer.lr: 0.1 → 0.5; trainer.labeled_batch: 8 → 10",
    ]
    assert other.folder != first.folder and (first.folder / "sweep.json").read_bytes() == written


def plan_only(folder: Path, *arguments: str) -> Sweep:
    """The planned sweep of these arguments; its sweep.json is removed, as if it had never started."""
    _, sweep = sweeper_and_sweep(folder, *arguments)
    (sweep.folder / "sweep.json").unlink()
    return sweep


def test_a_failure_is_printed_with_its_run_and_stops_the_sweep(tmp_path):
    arguments = ["-m", *TINY, "method=supervised", "label=5,20", "seed=0", "hydra/launcher=basic"]
    process = command(*arguments, "hydra.sweeper.on_failure=stop", cwd=tmp_path)
    lines = process.stderr.splitlines()
    (failure,) = (number for number, line in enumerate(lines) if "label=5: digits has 10 classes" in line)
    assert lines[failure].startswith(f"error: {tmp_path}/outputs/digits/supervised/label-5/seed-0/"), process.stderr
    assert process.returncode == 1 and lines[-1].startswith("error: stopped at a failed run: 2 of 2 runs are not")
    assert failure < len(lines) - 2 and not list(tmp_path.glob("outputs/digits/*/label-20/*/*/result.json"))


@pytest.mark.slow
def test_two_launchers_of_one_sweep_share_its_runs(tmp_path):
    arguments = ["-m", *TINY, "steps=60", "method=supervised", "label=20", "seed=0,1,2,3", "hydra/launcher=basic"]
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/digits/*/*/*/*/result.json")]
    assert [(r["status"], r["attempts"]) for r in results] == [("finished", 1)] * 4
    assert len(list(tmp_path.glob("outputs/sweeps/*"))) == 1


def test_every_point_of_the_page_names_a_test_that_exists():
    rows = [line for line in (ROOT / "docs/sweeps_conformance.md").read_text().splitlines() if line.startswith("| ")]
    named = [re.findall(r"`(tests/\S+)::(\w+)`", row) for row in rows[1:]]
    assert len(named) > 10 and all(named)
    for ((file, name),) in named:
        assert f"def {name}(" in (ROOT / file).read_text(), name

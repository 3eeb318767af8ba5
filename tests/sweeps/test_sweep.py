"""Whole sweeps: nothing runs twice, a failed run ends no other run, and the runs are compared at the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, TINY, command

QUICK = ["sweep=digits", *TINY[1:], "method=supervised", "hydra/launcher=basic"]


def results(folder: Path) -> dict[tuple, dict]:
    """The results below a folder, by method, label count and seed."""
    return {(r["choices"]["method"], r["label"], r["seed"]): r for r in all_results(folder)}


def all_results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("outputs/digits/*/*/*/*/result.json")]


def comparison(folder: Path) -> dict:
    (path,) = folder.glob("outputs/sweeps/*/comparison.json")
    return json.loads(path.read_text())


def test_a_bad_value_in_any_run_is_reported_before_the_first_run_starts(tmp_path):
    process = command(*QUICK, "label=20,ten", cwd=tmp_path)
    assert process.returncode == 1 and process.stderr.startswith("error: label=ten")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("launcher", ["basic", "two_at_a_time", "submitit_local", "ray"])
def test_a_failed_run_ends_no_other_run_and_only_it_is_repeated(launcher, tmp_path):
    package = {"submitit_local": "submitit", "ray": "ray"}.get(launcher)
    if package:
        pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    arguments = [*QUICK[:-1], "seed=0", "label=5,20", f"hydra/launcher={launcher}"]
    first = command(*arguments, cwd=tmp_path, WANDB_MODE="disabled")
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr
    assert first.stderr.splitlines()[-1].startswith("error: 1 of 2 runs are not finished"), first.stderr
    after_first = results(tmp_path)
    assert {key[1]: r["status"] for key, r in after_first.items()} == {5: "failed", 20: "finished"}
    (problem,) = comparison(tmp_path)["problems"]
    assert problem["reason"].startswith("label=5: digits has 10 classes")
    assert {r["choices"]["sweep"] for r in after_first.values()} == {next(tmp_path.glob("outputs/sweeps/*")).name}
    again = command(*arguments, cwd=tmp_path, WANDB_MODE="disabled")
    assert again.returncode == 1 and "2 runs (label 5,20), 1 of them finished" in again.stderr
    assert {key[1]: r["attempts"] for key, r in results(tmp_path).items()} == {5: 2, 20: 1}
    assert results(tmp_path)["supervised", 20, 0] == after_first["supervised", 20, 0]


@pytest.mark.slow
def test_ray_starts_runs_on_two_devices_and_repeats_one_whose_worker_was_killed(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    devices = ["trainer.devices=2", "trainer.threads=1", "+hydra.launcher.ray.remote.num_cpus=2"]
    devices += ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "trainer.checkpoint_minutes=0.01"]
    process = start(tmp_path, *QUICK[:-1], "steps=300", "eval_every=100", "seed=0,1", "label=20", *devices)
    wait_for(lambda: list(tmp_path.glob("outputs/digits/**/checkpoint.pt")))
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if child.cmdline()[:1] == ["ray::_run_job"]).kill()
    assert process.wait(timeout=280) == 0, (tmp_path / "stderr").read_text()
    assert {(r["status"], r["devices"]) for r in all_results(tmp_path)} == {("finished", 2)}
    assert sorted(r["attempts"] for r in all_results(tmp_path)) == [1, 2]


def test_lists_of_options_apply_on_top_of_a_sweep(tmp_path):
    process = command(*QUICK, "seed=0", "label=20", "schedule=cosine,constant", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert {r["settings"]["schedule"]["_target_"].rpartition(".")[2] for r in all_results(tmp_path)} == {
        "Cosine",
        "Constant",
    }


def test_one_run_of_a_sweep_can_be_repeated_by_its_command(tmp_path):
    assert command(*QUICK, "seed=0", "label=20", cwd=tmp_path).returncode == 0
    (result,) = results(tmp_path).values()
    again = command(*result["command"].split()[2:], cwd=tmp_path)
    assert again.returncode == 0 and "this run is finished" in again.stderr


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start the command in a session of its own. Its stderr goes to a file in the folder."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=(folder / "stderr").open("w"),
        start_new_session=True,
    )


def session_processes(process: subprocess.Popen) -> list[int]:
    """The ids of the processes that are left of a session."""
    ids = []
    for pid in psutil.pids():
        with suppress(OSError):
            ids += [pid] if os.getsid(pid) == process.pid else []
    return ids


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.1)


def test_a_killed_sweep_repeats_no_finished_run_and_gives_the_same_results(tmp_path):
    arguments = [*QUICK, "steps=200", "seed=0,1", "label=20", "trainer.checkpoint_minutes=0.005"]
    (tmp_path / "killed").mkdir(), (tmp_path / "whole").mkdir()
    process = start(tmp_path / "killed", *arguments)

    def checkpoint_of_second_run() -> list[Path]:
        return list((tmp_path / "killed").glob("outputs/digits/*/*/seed-1/*/checkpoint.pt"))

    wait_for(checkpoint_of_second_run)
    process.kill()
    process.wait()
    done = results(tmp_path / "killed")["supervised", 20, 0]
    assert done["status"] == "finished"
    assert command(*arguments, cwd=tmp_path / "killed").returncode == 0
    assert command(*arguments, cwd=tmp_path / "whole").returncode == 0
    killed, whole = results(tmp_path / "killed"), results(tmp_path / "whole")
    assert killed["supervised", 20, 0] == done
    assert {key: r["models"] for key, r in killed.items()} == {key: r["models"] for key, r in whole.items()}
    log = (checkpoint_of_second_run()[0].parent / "run.log").read_text()
    assert "resume  after step" in log
    summaries = [comparison(tmp_path / name)["summary"] for name in ("killed", "whole")]
    assert summaries[0] == summaries[1]


def test_workers_of_a_killed_sweep_finish_their_runs_and_end(tmp_path):
    process = start(tmp_path, *QUICK[:-1], "steps=200", "seed=0,1,2", "label=20")
    wait_for(lambda: len(list(tmp_path.glob("outputs/digits/**/metrics.jsonl"))) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: not session_processes(process))
    assert [r["status"] for r in all_results(tmp_path)].count("finished") >= 2


@pytest.mark.parametrize(
    ("launcher", "file", "ctrl_c"),
    [
        ("basic", "metrics.jsonl", True),
        ("two_at_a_time", "metrics.jsonl", True),
        ("two_at_a_time", "result.json", True),
        ("two_at_a_time", "metrics.jsonl", False),
    ],
)
def test_ctrl_c_or_sigterm_saves_the_runs_starts_no_more_and_compares_them(launcher, file, ctrl_c, tmp_path):
    process = start(tmp_path, *QUICK[:-1], "steps=5000", "seed=0,1,2", "label=20", f"hydra/launcher={launcher}")
    wait_for(lambda: list(tmp_path.glob(f"outputs/digits/**/{file}")))
    if ctrl_c:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()  # reaches the launcher alone
    assert process.wait(timeout=90) == 130
    statuses = [r["status"] for r in results(tmp_path).values()]
    assert statuses and set(statuses) == {"interrupted"} and len(statuses) < 3
    assert {p["status"] for p in comparison(tmp_path)["problems"]} == {"interrupted", "not started"}
    stderr = (tmp_path / "stderr").read_text()
    assert "rerun the command to run what is missing" in stderr and "Traceback" not in stderr


def test_optuna_optimizes_on_validation_images_and_its_trials_are_compared(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ["sweep=search", *TINY[1:], "validation=40"]
    first = command(*arguments, "hydra.sweeper.n_trials=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (trial,) = all_results(tmp_path)
    again = command(*arguments, "hydra.sweeper.n_trials=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    trials = all_results(tmp_path)
    assert len(trials) == 2 and trial in trials, "the same command goes on to the total number of trials"
    assert {r["choices"]["sweep"] for r in trials} == {"search"}
    best = min(r["validation"]["teacher"]["error_last"] for r in trials)
    assert f"best_value: {best}" in (tmp_path / "outputs/optimization_results.yaml").read_text()
    assert len(comparison(tmp_path)["runs"]) == 4  # student and teacher of each
    page = (tmp_path / "outputs/sweeps/search/comparison.md").read_text()
    assert re.search(r"\| mean_teacher +\| +20 +\| +2 +\| +40 +\|.*MORE VALIDATION IMAGES THAN LABELS", page)


def test_optuna_without_validation_images_is_refused(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    process = command("sweep=search", *TINY[1:], "validation=0", cwd=tmp_path)
    assert process.returncode == 1 and "needs validation images" in process.stderr
    assert "Traceback" not in process.stderr

"""Sweeps: exactly the runs they name, nothing twice, failures that take no other run along, and a comparison at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import psutil
import pytest
from conftest import CONF, ROOT, TINY, command, options
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from meanteacher.config.errors import UserError
from meanteacher.sweeps import cost
from meanteacher.sweeps.progress import Watch, best
from meanteacher.sweeps.sweep import Job, Sweep

QUICK = ["sweep=digits", *TINY[1:], "method=supervised", "hydra/launcher=basic"]
METHODS = len(options("method"))


def plan(*arguments: str) -> Sweep:
    """The sweep that these arguments name, composed and not run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.compose_config("config", list(arguments), run_mode=RunMode.MULTIRUN, from_shell=False)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        grid = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=None)
        return grid.plan(list(config.hydra.overrides.task))


def named(sweep: Sweep, *keys: str) -> set[tuple]:
    return {tuple(job.names.get(key) or job.settings[key] for key in keys) for job in sweep.jobs}


def results(folder: Path) -> dict[tuple, dict]:
    return {(r["names"]["method"], r["label"], r["seed"]): r for r in all_results(folder)}


def all_results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("outputs/digits/*/*/*/*/result.json")]


def comparison(folder: Path) -> dict:
    (path,) = folder.glob("outputs/sweeps/*/comparison.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("label_counts", product(("cifar10",), ("supervised", "mean_teacher"), (250, 500, 1000, 2000, 4000), range(3))),
        ("methods", product(("cifar10",), options("method"), (250, 1000, 4000), range(3))),
        ("seeds", product(("cifar10",), ("supervised", "mean_teacher"), (1000,), range(10))),
        ("digits", product(("digits",), ("supervised", "mean_teacher"), (20, 40, 80), range(3))),
    ],
)
def test_a_sweep_is_exactly_the_runs_it_names(name, jobs):
    expected = set(jobs)
    sweep = plan(f"sweep={name}")
    assert named(sweep, "dataset", "method", "label", "seed") == expected and len(sweep.jobs) == len(expected)
    assert sweep.id.startswith(f"{name}-") and sweep.folder == Path("outputs/sweeps") / sweep.id


def test_the_sensitivity_sweep_crosses_weight_and_decay():
    jobs = plan("sweep=consistency_ema").jobs
    values = {(job.settings["method"]["consistency_weight"], job.settings["method"]["teacher"]["decay"]) for job in jobs}
    assert values == set(product((0, 3, 30, 100, 300, 1000), (0.0, 0.9, 0.99, 0.999))) and len(jobs) == 48


def test_overrides_go_on_top_and_options_of_watching_do_not_change_a_sweep():
    sweep = plan("sweep=label_counts", "method=mean_teacher", "dataset=svhn", "label=250,1000", "seed=5")
    assert named(sweep, "dataset", "method", "label", "seed") == {("svhn", "mean_teacher", n, 5) for n in (250, 1000)}
    plain = plan("dataset=svhn", "label=1000,250", "seed=5", "logger=jsonl")
    assert {job.folder for job in plain.jobs} == {job.folder for job in sweep.jobs}
    assert plain.id == plan("seed=5", "label=250,1000", "dataset=svhn", "hydra/launcher=basic").id != sweep.id
    assert sweep.description() == "2 runs (label 250,1000)"


def test_the_help_names_every_sweep(tmp_path):
    names = sorted(path.stem for path in (ROOT / "sweeps/sweep").glob("*.yaml") if path.stem != "none")
    assert f"sweep: {', '.join(names)}\n" in command("--help", cwd=tmp_path).stdout


def test_a_bad_value_in_any_run_is_found_before_the_first(tmp_path):
    found = command(*QUICK, "label=20,ten", cwd=tmp_path)
    assert found.returncode == 1 and found.stderr.startswith("error: label=ten") and found.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("engine", ["basic", "two_at_a_time", "submitit_local", "ray"])
def test_a_failure_takes_no_run_along_and_is_all_that_is_repeated(engine, tmp_path):
    package = {"submitit_local": "submitit", "ray": "ray"}.get(engine)
    if package:
        pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    arguments = [*QUICK[:-1], "seed=0", "label=5,20", f"hydra/launcher={engine}"]
    first = command(*arguments, cwd=tmp_path, WANDB_MODE="disabled")
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr
    assert first.stderr.splitlines()[-1].startswith("error: 1 of 2 runs are not finished"), first.stderr
    found = results(tmp_path)
    assert {key[1]: r["status"] for key, r in found.items()} == {5: "failed", 20: "finished"}
    (problem,) = comparison(tmp_path)["problems"]
    assert problem["reason"].startswith("label=5: digits has 10 classes")
    group = {r["names"]["sweep"] for r in found.values()}
    assert group == {next(tmp_path.glob("outputs/sweeps/*")).name}
    again = command(*arguments, cwd=tmp_path, WANDB_MODE="disabled")
    assert again.returncode == 1 and "2 runs (label 5,20), 1 of them finished" in again.stderr
    assert {key[1]: r["attempts"] for key, r in results(tmp_path).items()} == {5: 2, 20: 1}
    assert results(tmp_path)["supervised", 20, 0] == found["supervised", 20, 0]


def test_lists_of_options_go_on_top_of_a_sweep(tmp_path):
    found = command(*QUICK, "seed=0", "label=20", "schedule=cosine,constant", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert {r["settings"]["schedule"]["_target_"].rpartition(".")[2] for r in all_results(tmp_path)} == {
        "Cosine",
        "Constant",
    }


def test_one_run_of_a_sweep_can_be_repeated_by_its_command(tmp_path):
    assert command(*QUICK, "seed=0", "label=20", cwd=tmp_path).returncode == 0
    (found,) = results(tmp_path).values()
    again = command(*found["command"].split()[2:], cwd=tmp_path)
    assert again.returncode == 0 and "this run is finished" in again.stderr


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=(folder / "stderr").open("w"),
        start_new_session=True,
    )


def left(process: subprocess.Popen) -> list[int]:
    """The processes of a killed sweep's session."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            found += [pid] if os.getsid(pid) == process.pid else []
    return found


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.1)


def test_a_killed_sweep_repeats_no_finished_run_and_ends_the_same(tmp_path):
    arguments = [*QUICK, "steps=200", "seed=0,1", "label=20", "trainer.checkpoint_minutes=0.005"]
    (tmp_path / "killed").mkdir(), (tmp_path / "whole").mkdir()
    process = start(tmp_path / "killed", *arguments)
    second = lambda: list((tmp_path / "killed").glob("outputs/digits/*/*/seed-1/*/checkpoint.pt"))  # noqa: E731
    wait_for(second)
    process.kill()
    process.wait()
    done = results(tmp_path / "killed")["supervised", 20, 0]
    assert done["status"] == "finished"
    assert command(*arguments, cwd=tmp_path / "killed").returncode == 0
    assert command(*arguments, cwd=tmp_path / "whole").returncode == 0
    found, whole = results(tmp_path / "killed"), results(tmp_path / "whole")
    assert found["supervised", 20, 0] == done
    assert {key: r["models"] for key, r in found.items()} == {key: r["models"] for key, r in whole.items()}
    log = (second()[0].parent / "run.log").read_text()
    assert "resume  after step" in log
    summaries = [comparison(tmp_path / name)["summary"] for name in ("killed", "whole")]
    assert summaries[0] == summaries[1]


def test_workers_of_a_killed_sweep_finish_their_runs_and_end(tmp_path):
    process = start(tmp_path, *QUICK[:-1], "steps=200", "seed=0,1,2", "label=20")
    wait_for(lambda: len(list(tmp_path.glob("outputs/digits/**/metrics.jsonl"))) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: not left(process))
    assert [r["status"] for r in all_results(tmp_path)].count("finished") >= 2


@pytest.mark.parametrize(
    ("engine", "begun"),
    [("basic", "metrics.jsonl"), ("two_at_a_time", "metrics.jsonl"), ("two_at_a_time", "result.json")],
)
def test_ctrl_c_saves_what_runs_starts_nothing_more_and_compares(engine, begun, tmp_path):
    process = start(tmp_path, *QUICK[:-1], "steps=5000", "seed=0,1,2", "label=20", f"hydra/launcher={engine}")
    wait_for(lambda: list(tmp_path.glob(f"outputs/digits/**/{begun}")))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=90) == 130
    found = results(tmp_path)
    assert found and all(r["status"] == "interrupted" for r in found.values()) and len(found) < 3
    assert {p["status"] for p in comparison(tmp_path)["problems"]} == {"interrupted", "not started"}
    said = (tmp_path / "stderr").read_text()
    assert "the same command goes on with what is missing" in said and "Traceback" not in said


KNOWN = {"digest": "0123456789", "command": "c", "source": "aaaa", "split_seed": 0}


def jobs(folder: Path, *statuses: str | None) -> list[Job]:
    """Jobs of 100 steps, one per status, which stand in their folders; None: not started."""
    made = []
    for seed, status in enumerate(statuses):
        job = Job(
            overrides=[f"seed={seed}"],
            folder=folder / f"run-{seed}",
            settings={"label": 20, "seed": seed, "split_seed": seed, "steps": 100, "fresh": False, "logger": {}},
            names={"dataset": "digits", "method": "supervised"},
        )
        if status:
            job.folder.mkdir(parents=True)
            result = {"status": status, "names": job.names, "label": 20, "seed": seed, "wall_seconds": 100.0 + seed}
            result |= KNOWN
            models = {"models": {"student": {"error_last": 0.5}, "average": {"error_last": 0.3 - seed / 10}}}
            models["validation"] = None
            (job.folder / "result.json").write_text(json.dumps(result | models))
            (job.folder / "metrics.jsonl").write_text('{"step": 10}\n{"step": 50}\n')
        made.append(job)
    return made


def test_the_best_run_so_far_is_chosen_on_validation_images_where_there_are_any():
    names = {"names": {"dataset": "digits", "method": "supervised"}, "label": 20, "status": "finished"} | KNOWN
    runs = [
        {
            **names,
            "seed": seed,
            "models": {"student": {"error_last": test}},
            "validation": {"student": {"error_last": held}},
        }
        for seed, test, held in [(0, 0.1, 0.4), (1, 0.2, 0.3)]
    ]
    assert best(runs) == "best 30.0 % on validation images (supervised, 20 labels, seed 1)"


def test_the_best_run_is_judged_by_the_same_network_as_in_the_table():
    """Over both seeds the student of supervised is better, so that its average is not the best, although it has 31 %."""
    known = {"names": {"method": "supervised"}, "label": 20, "status": "finished", "validation": None} | KNOWN
    runs = [
        {**known, "seed": seed, "models": {"student": {"error_last": student}, "average": {"error_last": average}}}
        for seed, student, average in [(0, 0.315, 0.415), (1, 0.32, 0.31)]
    ]
    assert best(runs) == "best 31.5 % (supervised, 20 labels, seed 0)"


def test_the_progress_of_a_sweep(tmp_path, capsys):
    done, missing = jobs(tmp_path / "a", "finished"), jobs(tmp_path / "b", None, None, None, None)
    sweep = Sweep("s", "c", tmp_path, done + missing)
    watch = Watch(sweep, {job.folder: 10.0 for job in missing})
    watch.began -= 60
    assert watch.look() == 0 and watch.line(0).startswith(
        "1/5 runs done · 0 running · 0 failed · best 30.0 % (supervised, 20"
    )
    jobs(tmp_path / "b", "finished", "running", "failed")
    share = watch.look()
    assert share == pytest.approx((10 + 5 + 10) / 40)
    assert watch.line(share).startswith(
        "2/5 runs done · 1 running · 1 failed · ETA 0:00:3"
    )  # 60 s · (1 − .625) / .625 = 36 s
    watch.show()
    watch.show()
    assert capsys.readouterr().err.count("sweep") == 1, "one line for the same state"


def test_an_earlier_failure_is_not_counted_before_it_is_tried_again(tmp_path):
    (job,) = jobs(tmp_path, "failed")
    os.utime(job.folder / "result.json", (1, 1))
    watch = Watch(Sweep("s", "c", tmp_path, [job]), {job.folder: 1.0})
    assert watch.look() == 0 and "0 failed" in watch.line(0)


def test_the_cost_is_taken_from_finished_runs_else_timed(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "meanteacher")
    found = jobs(tmp_path, "finished", "finished", None, None)
    sweep = Sweep("s", "c", tmp_path, found)
    monkeypatch.setattr(cost, "probe", lambda job: pytest.fail("timed, though runs of the kind are finished"))
    assert cost.estimate(sweep) == {job.folder: 100.5 for job in found[2:]}
    assert "cost    about 3 min, one run after another" in caplog.text and "sweep=digits" not in caplog.text
    monkeypatch.setattr(cost, "probe", lambda job: 3 * 3600.0)
    cost.estimate(Sweep("s", "c", tmp_path, jobs(tmp_path / "new", None)))
    assert "cost    about 3.0 h" in caplog.text and "sweep=digits takes minutes" in caplog.text


def test_what_cannot_be_timed_is_said_and_stops_a_sweep_only_where_nothing_can_run(tmp_path, monkeypatch):
    def refuse(job):
        raise UserError("no data")

    monkeypatch.setattr(cost, "probe", refuse)
    with pytest.raises(UserError, match="no data"):
        cost.estimate(Sweep("s", "c", tmp_path, jobs(tmp_path, None)))


def test_optuna_looks_at_validation_images_and_its_trials_are_compared(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ["sweep=search", *TINY[1:], "validation=40", "hydra.sweeper.n_trials=2"]
    first = command(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found = all_results(tmp_path)
    assert len(found) == 2 and {r["names"]["sweep"] for r in found} == {"search"}
    best = min(r["validation"]["teacher"]["error_last"] for r in found)
    said = (tmp_path / "outputs/optimization_results.yaml").read_text()
    assert f"best_value: {best}" in said
    assert len(comparison(tmp_path)["runs"]) == 4  # student and teacher of each
    again = command(*arguments, cwd=tmp_path)
    assert again.returncode == 0 and len(all_results(tmp_path)) == 2


def test_optuna_without_validation_images_is_refused(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    found = command("sweep=search", *TINY[1:], "validation=0", cwd=tmp_path)
    assert found.returncode == 1 and "needs validation images" in found.stderr and "Traceback" not in found.stderr

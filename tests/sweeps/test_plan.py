"""Planning a sweep: it consists of exactly the runs that its file and the command line name."""

from itertools import product
from pathlib import Path

import pytest
from conftest import CONF, ROOT, TINY, command, options
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from meanteacher.config import composing
from meanteacher.config.errors import UserError
from meanteacher.sweeps import grid
from meanteacher.sweeps.sweep import Sweep


def plan(*arguments: str) -> Sweep:
    """The sweep that these arguments name, composed but not run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.compose_config("config", list(arguments), run_mode=RunMode.MULTIRUN, from_shell=False)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=None)
        sweeper = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=None)
        return sweeper.plan(list(config.hydra.overrides.task))


def values(sweep: Sweep, *keys: str) -> set[tuple]:
    """The options and values of these keys, a tuple per job."""
    jobs = [job.settings.as_dict() | {k: v for k, v in job.choices.model_dump().items() if v} for job in sweep.jobs]
    return {tuple(job[key] for key in keys) for job in jobs}


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("label_counts", product(("cifar10",), ("supervised", "mean_teacher"), (250, 500, 1000, 2000, 4000), range(3))),
        ("methods seed=0", product(("cifar10",), options("method"), (250, 1000, 4000), range(1))),
        ("seeds", product(("cifar10",), ("supervised", "mean_teacher"), (1000,), range(10))),
        ("digits", product(("digits",), ("supervised", "mean_teacher"), (20, 40, 80), range(3))),
    ],
)
def test_a_sweep_consists_of_the_runs_it_names(name, jobs):
    expected = set(jobs)
    sweep = plan(*f"sweep={name}".split())
    assert values(sweep, "dataset", "method", "label", "seed") == expected and len(sweep.jobs) == len(expected)
    assert sweep.id.startswith(f"{name.split()[0]}-") and sweep.folder == Path("outputs/sweeps") / sweep.id


@pytest.mark.parametrize(
    ("name", "key", "points"),
    [
        ("unlabeled_amount", "unlabeled", (50, 100, 200, 500, None)),
        ("class_mismatch", "mismatch", (0, 0.25, 0.5, 0.75, 1)),
        ("imbalance", "imbalance", (1, 5, 10, 20, 50)),
    ],
)
def test_realistic_sweeps_run_supervised_only_where_it_can_differ(name, key, points):
    sweep = plan(f"sweep={name}", "seed=7", "steps=20")
    supervised = points if key == "imbalance" else points[:1]
    expected = {(method, point, 7, 20) for method in ("mean_teacher", "fixmatch") for point in points}
    expected |= {("supervised", point, 7, 20) for point in supervised}
    assert values(sweep, "method", key, "seed", "steps") == expected and len(sweep.jobs) == len(expected)


def test_the_sensitivity_sweep_crosses_weight_and_decay():
    jobs = plan("sweep=consistency_ema").jobs
    pairs = {(job.settings.method["consistency_weight"], job.settings.method["teacher"]["decay"]) for job in jobs}
    assert pairs == set(product((0, 3, 30, 100, 300, 1000), (0.0, 0.9, 0.99, 0.999))) and len(jobs) == 48


def test_overrides_apply_on_top_of_a_sweep_and_loggers_and_launchers_do_not_change_it():
    sweep = plan("sweep=label_counts", "method=mean_teacher", "dataset=svhn", "label=250,1000", "seed=5")
    assert values(sweep, "dataset", "method", "label", "seed") == {("svhn", "mean_teacher", n, 5) for n in (250, 1000)}
    plain = plan("dataset=svhn", "label=1000,250", "seed=5", "logger=jsonl")
    assert {job.folder for job in plain.jobs} == {job.folder for job in sweep.jobs}
    assert plain.id == plan("seed=5", "label=250,1000", "dataset=svhn", "hydra/launcher=basic").id != sweep.id
    assert sweep.description() == "2 runs (label 250,1000)"


def test_the_help_lists_every_sweep(tmp_path):
    names = sorted(path.stem for path in (ROOT / "sweeps/sweep").glob("*.yaml") if path.stem != "none")
    assert f"sweep: {', '.join(names)}\n" in command("--help", cwd=tmp_path).stdout


def test_each_job_is_composed_and_checked_once(monkeypatch):
    parsed = []
    parse = composing.Settings.parse
    monkeypatch.setattr(composing.Settings, "parse", lambda config: parsed.append(config["seed"]) or parse(config))
    plan("experiment=quickstart", "seed=0,1", "label=20")
    assert parsed == [0, 1]


def test_an_interval_is_refused():
    with pytest.raises(UserError, match=r"optimizer.lr=interval\(0.1,1\): .* hydra/sweeper=optuna"):
        plan("optimizer.lr=interval(0.1,1)")


def test_the_folders_are_those_that_hydra_gives_to_the_runs(tmp_path):
    process = command("-m", *TINY, "method=supervised", "label=20", "seed=0", "hydra/launcher=basic", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    (job,) = plan(*TINY, "method=supervised", "label=20", "seed=0").jobs
    assert (tmp_path / job.folder / "result.json").is_file()
    with pytest.raises(UserError, match="change output="):
        plan("hydra.sweep.subdir=x")


def test_hydra_finds_the_sweeper_in_its_plugin_namespace():
    from hydra_plugins.grid import Grid

    assert issubclass(Grid, grid.Grid) and Grid.__module__ == "hydra_plugins.grid"

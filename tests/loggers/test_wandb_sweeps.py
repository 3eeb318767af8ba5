"""Each file in sweeps/wandb is a W&B sweep that an agent can run with our command, and its runs belong to the sweep."""

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from conftest import CONF, ROOT, TINY, command, settings
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from meanteacher.config.settings import Settings

FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))
KEYS = {"program", "project", "name", "description", "method", "metric", "command", "parameters", "run_cap"}
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict:
    return yaml.safe_load(file.read_text())


def values(parameter: dict) -> list:
    """The values that a sweep may choose: all of a list, or the ends and the middle of a range."""
    if "values" in parameter:
        return parameter["values"]
    low, high = parameter["min"], parameter["max"]
    return [low, math.sqrt(low * high), high]


def choices(sweep: dict) -> list[dict]:
    """The values of the runs by name: all of a grid, or the corners of a search space."""
    parameters = sweep["parameters"]
    return [dict(zip(parameters, chosen, strict=True)) for chosen in product(*map(values, parameters.values()))]


def arguments(sweep: dict, chosen: dict) -> list[str]:
    """The arguments that an agent passes to run.py, expanded by wandb itself."""
    expanded = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    environment, python, program, *rest = create_sweep_command(list(sweep["command"]))
    assert (environment, python, program) == ("${env}", "python", "${program}")
    return [argument for part in rest for argument in (expanded[part[2:-1]] if part.startswith("${") else [part])]


def value(plain: dict, name: str):
    for part in name.split("."):
        plain = plain[part]
    return plain


def test_there_are_sweeps():
    assert FILES


@each_file
def test_it_is_a_valid_sweep_file(file):
    sweep = read(file)
    assert set(sweep) <= KEYS and (ROOT / sweep["program"]).is_file()
    assert (sweep["method"] == "grid") == ("metric" not in sweep), "only a search has a metric"
    for name, parameter in sweep["parameters"].items():
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name), "W&B does not accept the name"
        kind = {"values"} if "values" in parameter else {"distribution", "min", "max"}
        assert set(parameter) == kind, name
        if "distribution" in parameter:
            assert parameter["distribution"] == "log_uniform_values" and 0 < parameter["min"] < parameter["max"]
        elif sweep["method"] != "grid":
            assert len(set(parameter["values"])) > 1


@each_file
def test_its_comment_tells_how_to_start_it(file):
    top = "".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    assert f"wandb sweep {file.relative_to(ROOT)}" in top and "wandb agent" in top


@each_file
def test_every_choice_composes_with_its_values(file, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
    sweep = read(file)
    for chosen in choices(sweep):
        plain = settings(*arguments(sweep, chosen))
        Settings.parse(plain)
        assert plain["output"] == "outputs/wandb-abcd1234"
        for name, expected in chosen.items():
            if (CONF / name).is_dir():
                target = yaml.safe_load((CONF / name / f"{expected}.yaml").read_text())["_target_"]
                assert plain[name]["_target_"] == target
            else:
                assert value(plain, name) == expected, name


@each_file
def test_a_search_optimizes_on_validation_images(file):
    sweep = read(file)
    if "metric" in sweep:
        assert sweep["metric"]["name"].startswith("validation/") and sweep["metric"]["goal"] == "minimize"
        assert all(settings(*arguments(sweep, chosen))["validation"] for chosen in choices(sweep))


@each_file
def test_a_run_of_an_agent_belongs_to_the_sweep_and_logs_its_metric(file, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
    sweep = read(file)
    chosen = choices(sweep)[0]
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1} | {k: {"value": v} for k, v in chosen.items()}))
    agent = {
        "WANDB_SWEEP_ID": "abcd1234",
        "WANDB_RUN_ID": "agentsrun",
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
        "WANDB_PROJECT": "agentsproject",
        "WANDB_ENTITY": "agentsteam",
        "WANDB_DIR": str(tmp_path),
    }
    small = [*TINY[:-1], "label=20", "validation=100", "logger=wandb", "logger.wandb.mode=offline"]
    run = command(*arguments(sweep, chosen), *small, cwd=tmp_path, **agent)
    assert run.returncode == 0, run.stderr
    (result,) = (tmp_path / "outputs" / "wandb-abcd1234").glob("**/result.json")
    (record,) = (result.parent / "wandb").glob("offline-run-*/run-*.wandb")
    assert record.name == "run-agentsrun.wandb", "the run must have the agent's id, not the digest"
    content = record.read_bytes()
    assert all(text in content for text in (b"agentsproject", b"agentsteam", b"abcd1234"))
    assert b"method._target_" in content, "the sweep's own `method` replaced that of the configuration"
    logged = [json.loads(line) for line in (result.parent / "metrics.jsonl").read_text().splitlines()]
    if "metric" in sweep:
        assert any(sweep["metric"]["name"] in line for line in logged)

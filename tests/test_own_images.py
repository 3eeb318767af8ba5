"""The page on own images: its commands are accepted as they stand there, and the whole way leads to a classifier."""

import csv
import json
import os
import re
import shlex
import statistics
import subprocess
import sys

import pytest
from conftest import ROOT, parsed

from meanteacher.config.cli import COMMANDS

PAGE = (ROOT / "docs" / "own-images.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every command."""
    lines = "".join(BLOCKS).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def read_table(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_commands_and_settings_exist():
    names = []
    for program, name, *arguments in commands():
        assert (ROOT / name).is_file() if program == "python" else name in COMMANDS, (program, name)
        names.append(name)
        if name == "train":
            settings = parsed(*(word for word in arguments if not word.startswith("hydra.")))
            assert settings.dataset.node["broken"] == "skip"
    assert [name for name in names if name in COMMANDS] == [
        *("inspect", "train", "predict", "label-next", "train", "audit", "export")
    ]


def test_table_of_photos_gives_the_numbers_of_the_runs():
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    for method in ("freematch", "supervised"):
        paths = (ROOT / "results" / "own_photos" / "runs").glob(f"{method}-seed-*.json")
        results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        scores = [result["models"]["average"] for result in results]
        recall = [result["by_class"]["average"]["cheval, à l'arrêt"]["recall"] for result in results]
        columns = [[each[name] for each in scores] for name in ("error_last", "error_median_last_20")]
        cells = [f"{100 * statistics.mean(c):.1f} ± {100 * statistics.stdev(c):.1f}" for c in (*columns, recall)]
        assert f"| {method} | {' | '.join(cells)} |" in text


@pytest.mark.slow
def test_the_whole_way_leads_to_a_classifier(tmp_path):
    programs = {
        "python": "",
        "meanteacher": "-c 'import sys; from meanteacher.config.cli import main; sys.exit(main())'",
    }
    (tmp_path / "bin").mkdir()
    for name, options in programs.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = "set -e\n" + "".join(BLOCKS)
    run = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    proposed = shlex.split(run.stdout[run.stdout.index("meanteacher train") :].split("\n\n")[0].replace("\\\n", " "))
    documented = next(words for words in commands() if words[1] == "train")
    changed = {word.partition("=")[0] for word in set(proposed) ^ set(documented)}
    assert changed <= {"augment", "hydra.run.dir", "steps", "eval_every"}, "the page has the command that is proposed"
    for name in ("inspect.html", "runs/first/report.html", "runs/first/label-next/label-next.html"):
        assert (tmp_path / name).is_file()
    guesses = read_table(tmp_path / "guesses.csv")
    assert len(guesses) == 793 and sum(bool(row["error"]) for row in guesses) == 2
    assert len(read_table(tmp_path / "runs/first/label-next/label-next.csv")) == 40
    findings = read_table(tmp_path / "runs/second/audit/audit.csv")
    assert any("train/one/copy.png" in row["path"] + row["other_path"] for row in findings)
    results = [json.loads((tmp_path / f"runs/{name}/result.json").read_text()) for name in ("first", "second")]
    errors = [list(result["models"].values())[-1]["error_last"] for result in results]
    assert max(errors) < 0.15
    used = [line.split("\t") for line in run.stdout.splitlines() if line.startswith("photos/test/")]
    assert len(used) == 180 and sum(path.split("/")[2] == name for path, name, _ in used) > 0.85 * 180

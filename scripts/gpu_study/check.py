"""The stage `check`: whether everything runs on the GPU."""

import os
from pathlib import Path
from xml.etree import ElementTree

from pieces import ROOT, Piece, Study
from speed import benchmark_arguments, chosen
from training import training_run

from meanteacher.config.locations import CONF

FIRST = ["mean_teacher", "fixmatch"]
"""The methods that come first, in case that the time does not suffice for all."""

MARK = "@pytest.mark.gpu"

MOST_AT_ONCE = 8
"""Compiling a step keeps one to two CPU cores busy."""


def pieces(study: Study, overrides: dict[str, str]) -> tuple[list[Piece], int]:
    """A short run, the steps of every method, and the tests that need a GPU."""
    overrides = {"trainer.device": "cuda", "trainer.compile": "always", "--images": "2000"} | overrides
    methods = sorted(
        (path.stem for path in (CONF / "method").glob("*.yaml")), key=lambda name: (name not in FIRST, name)
    )
    checked = chosen(overrides, "method", methods)
    found = [short_run(study, overrides), *(check_steps(study, method, overrides) for method in checked)]
    if overrides["trainer.device"] != "cpu":
        rest = f"not ({' or '.join(f'[{method}]' for method in methods)})"
        found.append(gpu_tests(study, "tests", "check/tests", rest))
        kind = "check/tests of a method"
        found += [gpu_tests(study, f"tests-{method}", kind, f"[{method}]") for method in checked]
    return found, max(1, min(MOST_AT_ONCE, (os.cpu_count() or 1) // 2))


def short_run(study: Study, overrides: dict[str, str]) -> Piece:
    """A run of the digits with two evaluations, to its last file."""
    trainer = {key: value for key, value in overrides.items() if key.startswith("trainer.")}
    settings = {"experiment": "quickstart", "steps": "40", "eval_every": "20", "output": str(study.folder / "runs")}
    return training_run("run", "check/run", settings | trainer | {"logger": "jsonl"}, guess=120)


def check_steps(study: Study, method: str, overrides: dict[str, str]) -> Piece:
    """Compiled and captured steps of a method."""
    model, *_ = chosen(overrides, "model", ["wrn_28_2"])
    result = study.folder / f"{method}-measured.json"
    program = str(Path(__file__).with_name("check_method.py"))
    arguments = (program, str(result), *benchmark_arguments(method, model, overrides))
    return Piece(method, "check/method", arguments, 150, result)


def gpu_tests(study: Study, name: str, kind: str, expression: str) -> Piece:
    """The tests marked `gpu` that pytest's -k `expression` selects. None of them may be skipped."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]
    result = study.folder / f"{name}.xml"
    options = ("-q", "-p", "no:cacheprovider", "-m", "gpu", "-k", expression, f"--junitxml={result}")

    def problem() -> str | None:
        skipped = int(ElementTree.parse(result).getroot().find("testsuite").get("skipped"))
        return f"{skipped} tests were skipped" if skipped else None

    return Piece(name, kind, ("-m", "pytest", *options, *files), 90, result, problem)

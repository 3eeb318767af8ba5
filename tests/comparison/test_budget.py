"""The number of settings that each method was given, and the bounds of a choice made on validation images."""

import json

import numpy as np
import pytest
from comparison_runs import result, scores

from meanteacher.comparison.budget import MORE_VALIDATION, NO_SEARCH, error_bounds
from meanteacher.comparison.command import compare


def binomial_tail(n, k, p):
    """P(X ≥ k) of X ~ Binomial(n, p), term by term."""
    log_choose = np.concatenate([[0], np.cumsum(np.log((n - np.arange(n)) / (np.arange(n) + 1)))])
    return np.exp(log_choose + np.arange(n + 1) * np.log(p) + np.arange(n, -1, -1) * np.log(1 - p))[k:].sum()


@pytest.mark.parametrize("settings", [1, 20])
def test_bounds_leave_the_split_error_probability_on_each_side(settings):
    low, high = error_bounds(0.1, 300, settings)
    assert binomial_tail(300, 30, low) == pytest.approx(0.025 / settings, rel=1e-6)
    assert 1 - binomial_tail(300, 31, high) == pytest.approx(0.025 / settings, rel=1e-6)


def put_run(output, method, label, seed, error, lr, validation, sweep=None, name=None):
    """A run in its place below an output folder; validation errors are .05 above the test errors."""
    content = result(method, label, seed, error, {"optimizer.lr": lr, "validation": validation})
    content["choices"]["sweep"] = sweep
    if validation:
        content["validation"] = {name: scores(s["error_last"] + 0.05) for name, s in content["models"].items()}
    folder = output / "digits" / method / f"label-{label}" / f"seed-{seed}" / f"{name or lr}-{validation}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def budget(folder):
    """The rows of the table, as lists of text, and the notes."""
    text = (folder / "comparison.md").read_text()
    section = text[text.index("## Budget") :]
    lines = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines], text[text.index("## Notes") :]


def test_settings_of_searches_beside_the_runs_are_counted(tmp_path):
    output = tmp_path / "outputs"
    runs = [put_run(output, method, 20, seed, 0.2, 0.1, 0) for method in ("supervised", "fixmatch") for seed in (0, 1)]
    trials = [put_run(output, "fixmatch", 20, 100, 0.1 + lr, lr, 300, "search") for lr in (0.1, 0.2, 0.05)]
    trials += [put_run(output, "fixmatch", 20, 101, 0.2, 0.05, 300, "search", "repeat")]
    others = [put_run(output, "uda", 20, 100, 0.2, 0.1, 300, "search")]
    content = {"name": "search", "search": True, "runs": [{"folder": str(folder)} for folder in trials + others]}
    (output / "sweeps/search").mkdir(parents=True)
    (output / "sweeps/search/sweep.json").write_text(json.dumps(content))
    (output / "sweeps/broken").mkdir()
    (output / "sweeps/broken/sweep.json").write_text("{")
    terminal = compare(runs, tmp_path / "out").text
    rows, notes = budget(tmp_path / "out")
    # settings .1, .2 and .05 have the validation errors .25, .35 and (.2 + .25) / 2
    low, high = error_bounds(0.225, 300, 3)
    assert rows == [
        ["supervised", "20", "1", "0", "–", "–", NO_SEARCH],
        ["fixmatch", "20", "1", "0", "–", "–", "–"],
        ["fixmatch", "20", "3", "300", "22.5", f"{100 * low:.1f} to {100 * high:.1f}", MORE_VALIDATION],
    ]
    sentence = "Settings per method, in these runs and the searches beside them: fixmatch 3, supervised 1 "
    sentence += f"(NOT THE SAME NUMBER). {MORE_VALIDATION}."
    assert sentence in notes and sentence in terminal


def test_equal_budgets_and_small_validation_parts_are_not_marked(tmp_path):
    runs = [put_run(tmp_path / "o", method, 400, 0, 0.2, 0.1, 40) for method in ("supervised", "fixmatch")]
    compare(runs, tmp_path / "out")
    rows, notes = budget(tmp_path / "out")
    assert [row[-1] for row in rows] == ["–", "–"]
    assert "Settings per method, in these runs and the searches beside them: fixmatch 1, supervised 1.\n" in notes

"""The documents about labels give the numbers of the result files."""

import json
import re

import numpy as np
from conftest import ROOT

RESULTS = ROOT / "results"


def mean_scores(method: str, labels: str, rule: str) -> tuple[float, float]:
    """Mean precision and recall of the votes of neighbors over the seeds."""
    files = sorted((RESULTS / "audit").glob(f"digits-{method}-{labels}-seed-*.json"))
    contents = [json.loads(file.read_text()) for file in files]
    assert [content["seed"] for content in contents] == [0, 1, 2, 3, 4]
    rows = [row for content in contents for row in content["label_errors"]]
    rows = [row for row in rows if (row["source"], row["rule"]) == ("neighbors", rule)]
    return tuple(np.mean([row[name] for row in rows]) for name in ("precision", "recall"))


def test_scores_of_the_audit_are_those_of_its_runs():
    text = (RESULTS / "audit.md").read_text()
    rows = re.findall(
        r"^\| (\w+), (\w+) labels \| neighbors \| (\w+) \| [\d.]+ \| ([\d.]+) ± [\d.]+ \| ([\d.]+)", text, re.M
    )
    assert len(rows) == 8
    for method, labels, rule, *scores in rows:
        assert [f"{score:.2f}" for score in mean_scores(method, labels, rule)] == scores


def test_document_gives_the_range_of_the_scores():
    settings = [(method, labels) for method in ("mean_teacher", "supervised") for labels in ("200", "all")]
    text = " ".join((ROOT / "docs" / "labeling.md").read_text().split())
    confident = np.array([mean_scores(*setting, "prune_by_class") for setting in settings])
    every = np.array([mean_scores(*setting, "predicted_neq_given") for setting in settings])
    low, high = (f(np.hstack([confident, every]), axis=0) for f in (np.min, np.max))
    precision, recall, all_precision, all_recall = (
        f"{100 * a:.0f} to {100 * b:.0f} %" for a, b in zip(low, high, strict=True)
    )
    assert f"was right in {precision} and held {recall} of the wrong labels" in text
    assert f"held {all_recall} of them, at a precision of {all_precision}" in text

"""The documents about labels give the numbers of the result files."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from meanteacher.labeling.label_next import DEFAULT
from meanteacher.labeling.selection import STRATEGIES

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
    assert f"had a precision of {precision} and a recall of {recall};" in text
    assert f"had a precision of {all_precision} and a recall of {all_recall}" in text


def curves(by: str, images: str = "digits") -> np.ndarray:
    """The errors in percent of one strategy, [seeds, rounds]."""
    files = sorted((RESULTS / "label_next" / images).glob(f"{by}-seed-*.json"))
    return 100 * np.array([[point["error"] for point in json.loads(file.read_text())["rounds"]] for file in files])


@pytest.mark.parametrize(
    ("images", "strategies"), [("digits", set(STRATEGIES)), ("fashion_mnist", {DEFAULT, "random"})]
)
def test_errors_of_the_strategies_are_those_of_their_runs(images, strategies):
    texts = (RESULTS / "label_next.md").read_text().split("\n## Fashion-MNIST\n")
    text = texts[images == "fashion_mnist"]
    rows = re.findall(r"^\| (\w+) \| (\d.*) \| ([\d.]+) \| (.*) \|$", text, re.MULTILINE)
    assert {by for by, *_ in rows} == strategies
    for by, errors, mean, difference in rows:
        values = curves(by, images)
        assert values.shape == (5, 6)
        assert errors.split(" | ") == [
            f"{m:.1f} ± {s:.1f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)
        ]
        assert mean == f"{values[:, 1:].mean():.1f}"
        if by != "random":
            gains = (curves("random", images) - values)[:, 1:].mean(axis=1)
            low, high = stats.t.interval(0.95, 4, gains.mean(), stats.sem(gains))
            assert difference == f"{gains.mean():.1f} ({low:.1f} to {high:.1f})".replace("-", "−")


def test_document_gives_the_error_of_the_default():
    text = " ".join((ROOT / "docs" / "labeling.md").read_text().split())
    ours, random = curves(DEFAULT)[:, 1:], curves("random")[:, 1:]
    gains = (random - ours).mean(axis=1)
    low, high = stats.t.interval(0.95, 4, gains.mean(), stats.sem(gains))
    assert f"was {ours.mean():.1f} %, against {random.mean():.1f} % with random choice" in text
    assert f"difference: {low:.1f} to {high:.1f} points" in text

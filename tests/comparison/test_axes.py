"""Runs over a realistic option: one protocol with a point per value, the baseline at every point, and a sentence."""

import csv
import json

import pytest
from comparison_runs import markdown, put, result

from meanteacher.comparison.command import compare
from meanteacher.comparison.protocols import group_runs
from meanteacher.comparison.results import find_runs
from meanteacher.comparison.statistics import compute_statistics
from meanteacher.comparison.verdicts import write_captions, write_verdicts

SHARES = {0: 0.10, 0.25: 0.20, 0.5: 0.30, 0.75: 0.40, 1: 0.50}
"""The error of fixmatch by mismatch. With supervised at .30, the differences are .2, .1, 0, −.1 and −.2."""


def mismatched(method: str, share: float, seed: int, error: float) -> dict:
    """A run with `mismatch` whose classes a and b have the recalls 1 − error and 1 − error / 2."""
    content = result(method, 20, seed, error, {"mismatch": share})
    for scores in content["models"].values():
        scores |= {"balanced_accuracy": 1 - 0.75 * error, "auroc_unknown": 0.8}
        scores["recall"] = {"a": 1 - error, "b": 1 - error / 2}
    return content


def mismatch_runs() -> list[dict]:
    """Two seeds; the differences between supervised and fixmatch vary by ± .01 over the seeds."""
    runs = [mismatched("supervised", 0, seed, 0.30) for seed in (0, 1)]
    return runs + [
        mismatched("fixmatch", share, seed, error + (0.01, -0.01)[seed])
        for share, error in SHARES.items()
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def over_mismatch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mismatch")
    return compare([put(folder / "runs", *mismatch_runs())], folder / "out"), folder / "out"


def test_runs_over_a_realistic_option_are_one_protocol_with_the_baseline_at_every_point(over_mismatch):
    comparison, out = over_mismatch
    text = markdown(out)
    assert "| method     | network   |     mismatch 0 |   mismatch 0.25 |" in text and "Protocols, never" not in text
    assert text.count("| supervised | average   |     30.0 ± 0.0 |") == 1
    assert len(comparison.verdicts) == 6 and comparison.verdicts[4].startswith("mismatch 1: supervised 30.0 ± 0.0 %")
    assert "evaluated every 5 steps, fp32, 20 labels." in text
    assert "supervised uses no unlabeled images, so each of its runs counts at every point" in text
    assert comparison.finished == 12


def test_a_sentence_says_where_a_method_starts_to_hurt(over_mismatch):
    """Intervals: mean ± 12.7 · .0141 / √2 = ± .127, so only differences of ± .2 are clear."""
    comparison, out = over_mismatch
    caption = (
        "fixmatch is ahead of supervised at mismatch 0, within noise of it from mismatch 0.25 to mismatch 0.75, "
        "behind it at mismatch 1."
    )
    assert comparison.verdicts[-1] == caption
    assert f"![Error of each method](comparison.png)\n\n- {caption}\n" in markdown(out)
    assert f"</div>\n<p>{caption}</p>" in (out / "comparison.html").read_text()
    assert json.loads((out / "comparison.json").read_text())["captions"] == [caption]


def test_picture_is_drawn_over_the_option(over_mismatch):
    svg = over_mismatch[0].files["comparison.svg"].read_text()
    assert "mismatch: share of the unlabeled" in svg


def test_scores_of_classes_are_shown_where_runs_have_them(over_mismatch, tmp_path):
    """At mismatch 1: 1 − .75 · (.51, .49) = .6175, .6325; the lowest recall is that of class a: .49, .51."""
    _, out = over_mismatch
    row = "fixmatch|teacher|1|62.5±1.1|50.0±1.4|80.0±0.0|2|"
    assert row in markdown(out).replace(" ", "") and "| fixmatch   |          1 | 50.0 | 75.0 |" in markdown(out)
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert {row["mismatch"] for row in rows} == {"0.0", "0.25", "0.5", "0.75", "1.0"} and len(rows) == 24
    assert {row["auroc_unknown"] for row in rows} == {"0.8"} and "unlabeled" not in rows[0]
    compare([put(tmp_path / "runs", result("supervised", 20, 0, 0.3))], tmp_path / "out")
    assert "Balanced" not in markdown(tmp_path / "out")
    assert "balanced_accuracy" not in (tmp_path / "out/comparison.csv").read_text()


def numbers_of(folder, *runs):
    """The protocols, places and numbers of a comparison, without its files."""
    found = find_runs([put(folder, *runs)])
    protocols, places = group_runs(found)
    return protocols, places, compute_statistics(found, protocols, places)


def test_label_counts_are_an_axis_under_a_constant_option_and_separate_protocols_over_a_varied_one(tmp_path):
    constant = [result("a", n, 0, 0.1, {"unlabeled": 500}) for n in (20, 40)]
    (protocol,), places, numbers = numbers_of(tmp_path / "constant", *constant)
    assert protocol.axis == "label" and [place.point for place in places] == [20, 40]
    assert protocol.shared.endswith("fp32, 500 unlabeled images")
    varied = [result("a", n, 0, 0.1, {"unlabeled": u}) for n in (20, 40) for u in (100, None)]
    protocols, places, numbers = numbers_of(tmp_path / "varied", *varied)
    assert [(p.axis, p.differs) for p in protocols] == [("unlabeled", "label=20"), ("unlabeled", "label=40")]
    assert [(place.protocol, place.point) for place in places] == [(p, n) for p in "AB" for n in (100, "all")]
    assert write_verdicts(protocols, numbers, [])[1].startswith("A, all unlabeled images: a 10.0 %")


def test_baseline_is_not_repeated_over_options_of_the_labels(tmp_path):
    runs = [result("a", 20, 0, 0.1, {"imbalance": g}) for g in (None, 10)] + [result("supervised", 20, 0, 0.2)]
    protocols, _, numbers = numbers_of(tmp_path / "runs", *runs)
    verdicts = write_verdicts(protocols, numbers, [])
    assert verdicts[0].startswith("imbalance 1: a 10.0 % is 10.0 points ahead of supervised")
    assert verdicts[1].startswith("imbalance 10: a 10.0 % (n = 1); there is no other method")
    assert write_captions(protocols, numbers) == [
        "a is not comparable with supervised (one seed: noise unknown) at imbalance 1."
    ]


def test_a_run_that_failed_early_lies_on_the_axis_of_the_others(tmp_path):
    failed = result("fixmatch", 20, 3, 0.1, {"mismatch": 0.6}, status="failed", models=None, data=None, precision=None)
    protocols, places, _ = numbers_of(tmp_path / "runs", *mismatch_runs(), failed)
    assert places[-1] == ("A", "fixmatch", 0.6) and len(protocols) == 1

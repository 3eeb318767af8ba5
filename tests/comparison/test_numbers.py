"""The numbers of a comparison, each against one computed by hand."""

import csv
import json

import pytest
from comparison_runs import markdown, put, result, three_seeds

from meanteacher.comparison.command import compare
from meanteacher.comparison.statistics import labels_needed
from meanteacher.config.formats import format_duration


def test_means_deviations_and_paired_interval(tmp_path):
    comparison = compare([three_seeds(tmp_path / "runs")], tmp_path / "out")
    # mean_teacher 10, 12, 14: mean 12, std 2. supervised 20, 24, 22: mean 22, std 2. Differences 10, 12, 8: mean 10,
    # std 2, half an interval t(.975, 2) · 2 / sqrt(3) = 4.302653 · 1.154701 = 4.968
    difference = "beats supervised by 10.0 points (95 % interval 5.0 to 15.0, n = 3): clear."
    assert comparison.verdicts == [f"20 labels: mean_teacher 12.0 ± 2.0 % {difference}"]
    assert comparison.finished == 6 and not comparison.problems
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    (pair,) = content["pairs"]
    assert (pair["n"], pair["difference"]) == (3, pytest.approx(0.10))
    assert (pair["low"], pair["high"]) == (pytest.approx(0.10 - 0.04968276), pytest.approx(0.10 + 0.04968276))
    teacher = comparison.summary[comparison.summary["network"] == "teacher"].iloc[0]
    assert teacher["error_last"] == pytest.approx(0.12) and teacher["error_last_std"] == pytest.approx(0.02)
    assert teacher["error_median_last_20"] == pytest.approx(0.13) and teacher["ece"] == pytest.approx(0.06)
    assert "| mean_teacher | teacher   | **12.0 ± 2.0** |   3 |" in markdown(tmp_path / "out")
    assert "**13.0 ± 2.0**" in markdown(tmp_path / "out"), "the median of the last 20 has a table of its own"
    assert [row["images_per_second"] for row in content["cost"]] == [101, 101]
    assert [row["training_seconds_in_all"] for row in content["cost"]] == [3 * 3600.0] * 2


def test_best_test_error_is_only_in_csv_and_json(tmp_path):
    compare([three_seeds(tmp_path / "runs")], out := tmp_path / "out")
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert len(rows) == 12 and {row["error_best_on_test"] for row in rows} == {"0.001"}
    assert "0.1" not in markdown(out).split("## Notes")[0] and "best_on_test" not in markdown(out)
    assert "best_on_test" not in (out / "comparison.html").read_text()


def test_one_seed_gives_no_deviation_and_no_interval(tmp_path):
    runs = put(tmp_path / "runs", result("supervised", 20, 0, 0.3), result("mean_teacher", 20, 0, 0.2))
    comparison = compare([runs], tmp_path / "out")
    assert comparison.verdicts == [
        "20 labels: mean_teacher 20.0 % is 10.0 points ahead of supervised (one seed: noise unknown)."
    ]
    assert (
        comparison.summary["error_last_std"].isna().all() and "±" not in markdown(tmp_path / "out").split("\nMean ±")[0]
    )
    assert json.loads((tmp_path / "out/comparison.json").read_text())["summary"][0]["error_last_std"] is None


def test_difference_whose_interval_includes_zero_is_within_noise(tmp_path):
    # differences 2, −1, 2: mean 1, std sqrt(3), half an interval 4.302653 · sqrt(3) / sqrt(3) = 4.3
    errors = [(0.22, 0.20), (0.20, 0.21), (0.23, 0.21)]
    runs = [result(m, 20, s, e[i]) for s, e in enumerate(errors) for i, m in enumerate(("supervised", "mean_teacher"))]
    (verdict,) = compare([put(tmp_path / "runs", *runs)], tmp_path / "out").verdicts
    assert "is 1.0 points ahead of supervised (95 % interval −3.3 to 5.3, n = 3): within noise." in verdict


def test_pairs_share_seed_and_labeled_images(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    put(runs, result("mean_teacher", 20, 3, 0.1), result("supervised", 20, 3, 0.9, split_digest="other images"))
    put(
        runs, result("mean_teacher", 20, 4, 0.1, split_digest=None), result("supervised", 20, 4, 0.9, split_digest=None)
    )
    comparison = compare([runs], tmp_path / "out")
    assert "by 10.0 points (95 % interval 5.0 to 15.0, n = 3)" in comparison.verdicts[0]
    assert "2 runs do not record which images were labeled" in markdown(tmp_path / "out")


def test_winner_is_also_compared_with_the_runner_up(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    put(runs, *(result("pi_model", 20, s, e) for s, e in enumerate((0.11, 0.13, 0.15))))
    (verdict,) = compare([runs], tmp_path / "out").verdicts
    assert "beats supervised by 10.0 points" in verdict
    assert verdict.endswith("It beats the runner-up pi_model by 1.0 points (95 % interval 1.0 to 1.0, n = 3): clear.")


def test_baseline_can_win(tmp_path):
    runs = put(tmp_path / "runs", result("supervised", 20, 0, 0.2), result("mean_teacher", 20, 0, 0.3))
    (verdict,) = compare([runs], tmp_path / "out").verdicts
    assert verdict == "20 labels: supervised 20.0 % is 10.0 points ahead of mean_teacher (one seed: noise unknown)."


def test_baseline_is_judged_by_the_better_of_its_networks(tmp_path):
    """Means over both label counts: student (.30 + .32) / 2 = .31, average (.32 + .50) / 2 = .41; mean_teacher .25."""
    runs = [result("supervised", 20, 0, 0.32), result("supervised", 50, 0, 0.50), result("mean_teacher", 20, 0, 0.25)]
    runs[0]["models"]["student"]["error_last"], runs[1]["models"]["student"]["error_last"] = 0.30, 0.32
    comparison = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert (
        comparison.verdicts[0]
        == "20 labels: mean_teacher 25.0 % is 5.0 points ahead of supervised (one seed: noise unknown)."
    )
    assert comparison.verdicts[1].startswith("50 labels: supervised 32.0 %")


def test_labels_needed_interpolates_the_baseline():
    curve = [(100.0, 0.4), (1000.0, 0.3), (10000.0, 0.1)]
    # halfway down between 100 and 1000 on a logarithmic scale is sqrt(100 · 1000) = 316.2
    assert labels_needed(curve, 0.35) == (pytest.approx(316.228, abs=0.01), pytest.approx(316.228, abs=0.01))
    assert labels_needed(curve, 0.3) == (pytest.approx(1000), pytest.approx(1000))
    assert labels_needed(curve, 0.05) == (10000, None) and labels_needed(curve, 0.5) == (None, 100)
    assert labels_needed([(100.0, 0.4), (1000.0, 0.5), (10000.0, 0.1)], 0.4) == (100, 100), "the fewest"


def test_label_efficiency_table(tmp_path):
    runs = [result("supervised", n, 0, e) for n, e in ((100, 0.4), (1000, 0.3), ("all", 0.1))]
    runs += [result("mean_teacher", 100, 0, 0.35), result("mean_teacher", 1000, 0, 0.2)]
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert "| mean_teacher |      100 |                       316 |    3.2× |" in markdown(tmp_path / "out")
    assert "> 1000" in markdown(tmp_path / "out")
    assert "| method       | network   |   100 labels |   1000 labels |   all labels |" in markdown(tmp_path / "out")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (6.5, "6.5 s"),
        (45, "45 s"),
        (59.6, "1.0 min"),
        (720, "12 min"),
        (3580, "1.0 h"),
        (12240, "3.4 h"),
    ],
)
def test_durations_are_shown_in_seconds_minutes_or_hours(seconds, text):
    assert format_duration(seconds) == text


def test_pseudo_label_table(tmp_path):
    def run(method, seed, scores):
        return result(method, 20, seed, 0.1 + seed / 10, pseudo_labels=scores)

    kept = {"precision": 0.8, "coverage": 0.5, "weighted_coverage": 0.4, "balance": 0.9}
    nothing_kept = {"coverage": 0.0, "weighted_coverage": 0.0}
    runs = run("fixmatch", 0, kept), run("fixmatch", 1, nothing_kept), run("supervised", 0, None)
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    text = markdown(tmp_path / "out")
    section = text[text.index("## Pseudo-labels (%)") :]
    row = next(line for line in section.splitlines() if line.startswith("| fixmatch"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["fixmatch", "20", "80.0", "25.0 ± 35.4", "20.0 ± 28.3", "90.0", "2"]
    assert "| supervised" not in section[: section.index("Of the pseudo-labels")]
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").open()))
    assert {row["pseudo_label_precision"] for row in rows} == {"0.8", ""}

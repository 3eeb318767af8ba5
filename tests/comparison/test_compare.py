"""Comparing runs: every number against one computed by hand, and nothing mixed, dropped or hidden."""

import csv
import json
from pathlib import Path

import pytest

from meanteacher.comparison.command import compare
from meanteacher.comparison.protocols import contrast
from meanteacher.comparison.statistics import labels_needed

SETTINGS = {
    "dataset": {
        "name": "digits",
        "_target_": "d.digits",
        "data_dir": "x",
        "storage": "auto",
        "labeled_in_unlabeled": True,
    },
    "model": {"_target_": "m.WideResNet", "depth": 10, "width": 1},
    "augment": {"_target_": "a.Augment", "views": {"weak": {}}},
    "schedule": {"_target_": "s.Cosine", "steps": 100},
    "method": {"_target_": "x.Method"},
    "optimizer": {"_target_": "o.sgd", "lr": 0.1},
    "trainer": {
        "precision": "auto",
        "labeled_batch": 16,
        "unlabeled_batch": 48,
        "average_decay": 0.99,
        "device": "auto",
    },
    "validation": 0,
    "steps": 100,
    "eval_every": 5,
}


def result(method: str, label, seed: int, error: float, changes: dict | None = None, **more) -> dict:
    """A finished run whose deployed network has this error, whose student has .02 more. changes: dotted settings."""
    settings = json.loads(json.dumps(SETTINGS))
    for name, value in (changes or {}).items():
        *groups, last = name.split(".")
        inside = settings
        for group in groups:
            inside = inside[group]
        inside[last] = value
    if "steps" in (changes or {}):
        settings["schedule"]["steps"] = changes["steps"]

    def scores(value: float) -> dict:
        return {
            "error_last": value,
            "error_median_last_20": value + 0.01,
            "error_best_on_test": 0.001,
            "ece": value / 2,
        }

    return {
        "status": "finished",
        "digest": "0123456789",
        "command": f"python run.py method={method}",
        "names": {"dataset": settings["dataset"]["name"], "method": method, "optimizer": "sgd", "model": "wrn_10_1"},
        "source": "aaaa",
        "label": label,
        "seed": seed,
        "split_seed": seed,
        "settings": settings,
        "bitwise": True,
        "models": {"student": scores(error + 0.02), "average" if method == "supervised" else "teacher": scores(error)},
        "validation": None,
        "steps": settings["steps"],
        "images_per_second": 100.0 + seed,
        "training_seconds": 3600.0,
        "peak_memory_bytes": 2**30,
        "hardware": "a CPU",
        "commit": "c0ffee",
        "precision": "fp32",
        "split_digest": f"split {label} {seed}",
        "data": {"name": "digits", "train": 1438, "test": 359, "classes": 10},
    } | more


def put(folder: Path, *results: dict) -> Path:
    """Each result in a run folder of its own below `folder`."""
    start = len(list(folder.glob("*"))) if folder.exists() else 0
    for number, content in enumerate(results, start):
        run = folder / f"run-{number:03}"
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps(content))
    return folder


def three(folder: Path) -> Path:
    """Two methods over three seeds, their differences .10, .12 and .08."""
    pairs = enumerate(zip((0.20, 0.24, 0.22), (0.10, 0.12, 0.14), strict=True))
    return put(
        folder,
        *(result(m, 20, s, e) for s, both in pairs for m, e in zip(("supervised", "mean_teacher"), both, strict=True)),
    )


def text(folder: Path) -> str:
    return (folder / "comparison.md").read_text()


def test_means_deviations_and_the_paired_interval(tmp_path):
    found = compare([three(tmp_path / "runs")], tmp_path / "out")
    # mean_teacher 10, 12, 14: mean 12, std 2. supervised 20, 24, 22: mean 22, std 2. Differences 10, 12, 8: mean 10, std 2,
    # half an interval t(.975, 2) · 2 / sqrt(3) = 4.302653 · 1.154701 = 4.968
    first = "20 labels: mean_teacher 12.0 ± 2.0 % beats supervised by 10.0 points (95 % interval 5.0 to 15.0, n = 3): clear."
    assert found.verdicts == [first] and found.finished == 6 and not found.problems
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    (pair,) = content["pairs"]
    assert (pair["n"], pair["difference"]) == (3, pytest.approx(0.10))
    assert (pair["low"], pair["high"]) == (pytest.approx(0.10 - 0.04968276), pytest.approx(0.10 + 0.04968276))
    teacher = found.summary[found.summary["network"] == "teacher"].iloc[0]
    assert teacher["error_last"] == pytest.approx(0.12) and teacher["error_last_std"] == pytest.approx(0.02)
    assert teacher["error_median_last_20"] == pytest.approx(0.13) and teacher["ece"] == pytest.approx(0.06)
    assert "| mean_teacher | teacher   | **12.0 ± 2.0** |   3 |" in text(tmp_path / "out")
    assert "**13.0 ± 2.0**" in text(tmp_path / "out"), "the median of the last 20 has a table of its own"
    assert [row["images_per_second"] for row in content["cost"]] == [101, 101]
    assert [row["training_seconds_in_all"] for row in content["cost"]] == [3 * 3600.0] * 2


def test_the_best_on_the_test_part_is_in_the_csv_and_the_json_alone(tmp_path):
    compare([three(tmp_path / "runs")], out := tmp_path / "out")
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert len(rows) == 12 and {row["error_best_on_test"] for row in rows} == {"0.001"}
    assert "0.1" not in text(out).split("## Notes")[0] and "best_on_test" not in text(out)
    assert "best_on_test" not in (out / "comparison.html").read_text()


def test_one_seed_has_no_deviation_and_no_interval(tmp_path):
    runs = put(tmp_path / "runs", result("supervised", 20, 0, 0.3), result("mean_teacher", 20, 0, 0.2))
    found = compare([runs], tmp_path / "out")
    assert found.verdicts == [
        "20 labels: mean_teacher 20.0 % is 10.0 points ahead of supervised (one seed: noise unknown)."
    ]
    assert found.summary["error_last_std"].isna().all() and "±" not in text(tmp_path / "out").split("\nMean ±")[0]
    assert json.loads((tmp_path / "out/comparison.json").read_text())["summary"][0]["error_last_std"] is None


def test_a_difference_within_the_noise_is_called_so(tmp_path):
    # differences 2, −1, 2: mean 1, std sqrt(3), half an interval 4.302653 · sqrt(3) / sqrt(3) = 4.3
    errors = [(0.22, 0.20), (0.20, 0.21), (0.23, 0.21)]
    runs = [result(m, 20, s, e[i]) for s, e in enumerate(errors) for i, m in enumerate(("supervised", "mean_teacher"))]
    (verdict,) = compare([put(tmp_path / "runs", *runs)], tmp_path / "out").verdicts
    assert "is 1.0 points ahead of supervised (95 % interval −3.3 to 5.3, n = 3): within noise." in verdict


def test_pairs_share_seed_and_labeled_images(tmp_path):
    runs = three(tmp_path / "runs")
    put(runs, result("mean_teacher", 20, 3, 0.1), result("supervised", 20, 3, 0.9, split_digest="other images"))
    put(
        runs, result("mean_teacher", 20, 4, 0.1, split_digest=None), result("supervised", 20, 4, 0.9, split_digest=None)
    )
    found = compare([runs], tmp_path / "out")
    assert "by 10.0 points (95 % interval 5.0 to 15.0, n = 3)" in found.verdicts[0]
    assert "2 runs do not say which images were labeled" in text(tmp_path / "out")


def test_the_winner_is_also_held_against_the_runner_up(tmp_path):
    runs = three(tmp_path / "runs")
    put(runs, *(result("pi_model", 20, s, e) for s, e in enumerate((0.11, 0.13, 0.15))))
    (verdict,) = compare([runs], tmp_path / "out").verdicts
    assert "beats supervised by 10.0 points" in verdict
    assert verdict.endswith("It beats the runner-up pi_model by 1.0 points (95 % interval 1.0 to 1.0, n = 3): clear.")


def test_the_baseline_may_win(tmp_path):
    runs = put(tmp_path / "runs", result("supervised", 20, 0, 0.2), result("mean_teacher", 20, 0, 0.3))
    (verdict,) = compare([runs], tmp_path / "out").verdicts
    assert verdict == "20 labels: supervised 20.0 % is 10.0 points ahead of mean_teacher (one seed: noise unknown)."


def test_the_baseline_is_judged_by_the_better_of_its_networks(tmp_path):
    """Means over both label counts: student (.30 + .32) / 2 = .31, average (.32 + .50) / 2 = .41; the method has .25."""
    runs = [result("supervised", 20, 0, 0.32), result("supervised", 50, 0, 0.50), result("mean_teacher", 20, 0, 0.25)]
    runs[0]["models"]["student"]["error_last"], runs[1]["models"]["student"]["error_last"] = 0.30, 0.32
    found = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert (
        found.verdicts[0]
        == "20 labels: mean_teacher 25.0 % is 5.0 points ahead of supervised (one seed: noise unknown)."
    )
    assert found.verdicts[1].startswith("50 labels: supervised 32.0 %")


def test_labels_the_baseline_needs():
    curve = [(100.0, 0.4), (1000.0, 0.3), (10000.0, 0.1)]
    # half way down between 100 and 1000 on a logarithmic scale is sqrt(100 · 1000) = 316.2
    assert labels_needed(curve, 0.35) == (pytest.approx(316.228, abs=0.01), pytest.approx(316.228, abs=0.01))
    assert labels_needed(curve, 0.3) == (pytest.approx(1000), pytest.approx(1000))
    assert labels_needed(curve, 0.05) == (10000, None) and labels_needed(curve, 0.5) == (None, 100)
    assert labels_needed([(100.0, 0.4), (1000.0, 0.5), (10000.0, 0.1)], 0.4) == (100, 100), "the fewest"


def test_label_efficiency_in_the_report(tmp_path):
    runs = [result("supervised", n, 0, e) for n, e in ((100, 0.4), (1000, 0.3), ("all", 0.1))]
    runs += [result("mean_teacher", 100, 0, 0.35), result("mean_teacher", 1000, 0, 0.2)]
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert "| mean_teacher |      100 |                       316 |    3.2× |" in text(tmp_path / "out")
    assert "> 1000" in text(tmp_path / "out")
    assert "| method       | network   |   100 labels |   1000 labels |   all labels |" in text(tmp_path / "out")


def test_protocols_are_never_mixed(tmp_path):
    runs = three(tmp_path / "runs")
    put(runs, result("mean_teacher", 20, 0, 0.9, {"steps": 200}), result("supervised", 20, 1, 0.8, {"steps": 200}))
    found = compare([runs], tmp_path / "out")
    assert found.verdicts[0].startswith("A, 20 labels: mean_teacher 12.0 ± 2.0 % beats supervised by 10.0 points")
    assert found.verdicts[1].startswith("B, 20 labels: supervised 80.0 % has a smaller mean error than mean_teacher")
    assert "- Protocols, never mixed in a number: A: steps=100; B: steps=200." in text(tmp_path / "out")
    shared = (
        "digits (1438 training images, 359 test images, 10 classes), WideResNet-10-1, 16 labeled + 48 unlabeled images"
    )
    assert f"- Shared by all: {shared} a step" in text(tmp_path / "out")
    assert "## Error at the last step (%), B" in text(tmp_path / "out")


@pytest.mark.parametrize("more", [{"precision": "bf16"}, {"data": {"name": "digits", "train": 1438, "test": 360}}])
def test_what_a_run_found_belongs_to_its_protocol(tmp_path, more):
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.1, **more))
    assert len(compare([runs], tmp_path / "out").verdicts) == 2


def test_where_images_lie_and_what_watches_a_run_do_not_matter(tmp_path):
    elsewhere = {"dataset.data_dir": "y", "dataset.storage": "mmap", "trainer.device": "cuda", "model.width": 1.0}
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.3, elsewhere))
    assert compare([runs], tmp_path / "out").verdicts[0].startswith("20 labels: a 20.0 ± 14.1 % (n = 2)")


def test_variants_are_named_by_what_differs_within_their_method(tmp_path):
    runs = [result("supervised", 20, 0, 0.3, {"optimizer.lr": 0.5})]
    for weight in (10, 10.0, 100):
        for lr in (0.1, 0.2):
            changes = {"method.weight": weight, "method.ema_decay": 0.99, "optimizer.lr": lr}
            runs.append(result("mean_teacher", 20, int(isinstance(weight, float)), 0.2, changes))
    found = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    both = [f"mean_teacher weight={weight} lr={lr}" for weight in (10, 100) for lr in (0.1, 0.2)]
    assert list(dict.fromkeys(found.summary["variant"])) == ["supervised", *both], "10 and 10.0 are one"
    alone = put(tmp_path / "alone", *(result("a", 20, s, 0.2, {"method.weight": w}) for s, w in ((0, 10), (1, 10.0))))
    assert set(compare([alone], tmp_path / "other").summary["variant"]) == {"a"}
    assert "so its error flatters it" in text(tmp_path / "out")


def test_keys_that_only_some_have_are_named_by_their_option():
    items = [
        {"optimizer._target_": "sgd", "optimizer.momentum": 0.9},
        {"optimizer._target_": "adam", "optimizer.beta": 0.9},
    ]
    names = [{"optimizer": "sgd"}, {"optimizer": "adam"}]
    assert contrast(items, names) == [{"optimizer": "sgd"}, {"optimizer": "adam"}]
    same = [{"optimizer": "mine"}] * 2
    assert contrast(items, same)[0]["optimizer.momentum"] == "0.9", (
        "an option of the same name does not tell them apart"
    )

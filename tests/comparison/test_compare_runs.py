"""Comparing runs: which are found, which count, what is said of the others, and what is published."""

import csv
import json
import subprocess
import sys

import pytest
from conftest import ROOT
from test_compare import put, result, text, three

from meanteacher.comparison import command as command
from meanteacher.comparison.command import compare
from meanteacher.config.errors import UserError


def test_repeats_with_other_numbers_are_in_no_mean_and_copies_count_once(tmp_path):
    runs = three(tmp_path / "runs")
    again = [result("mean_teacher", 20, 0, 0.7, digest="ffff", source="bbbb"), result("supervised", 20, 1, 0.24)]
    found = compare([put(runs, *again)], tmp_path / "out")
    # seed 0's two results disagree, so seeds 1 and 2 are left: (12 + 14) / 2; the copied supervised run counts once
    assert "mean_teacher 13.0 ± 1.4 %" in found.verdicts[0] and "n = 2" in found.verdicts[0]
    assert [problem["status"] for problem in found.problems] == ["repeated", "repeated"]
    assert "1 finished run occurs twice with the same numbers; counted once." in text(tmp_path / "out")
    n = found.summary.set_index(["method", "network"])["n"]
    assert (n["mean_teacher", "teacher"], n["supervised", "average"]) == (2, 3)


def test_notes_say_what_was_mixed(tmp_path):
    more = {"hardware": "a GPU", "source": "bbbb", "bitwise": False}
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.3, **more))
    compare([runs], tmp_path / "out")
    for said in ("cost is not comparable", "different source code", "not repeatable to the bit: 1 run"):
        assert said in text(tmp_path / "out")


def failed(method: str, seed: int, reason: str) -> dict:
    gone = ("models", "data", "precision", "split_digest", "bitwise")
    return {k: v for k, v in result(method, 20, seed, 0.1).items() if k not in gone} | {
        "status": "failed",
        "reason": reason,
    }


def test_what_did_not_finish_is_listed_with_its_reason(tmp_path):
    runs = put(three(tmp_path / "runs"), failed("mean_teacher", 7, "CUDA out of\nmemory | here"))
    put(
        runs,
        result("mean_teacher", 20, 8, 0.9, status="interrupted"),
        result("mean_teacher", 20, 9, 0.9, status="running"),
    )
    (runs / "broken").mkdir()
    (runs / "broken/result.json").write_text("{")
    (runs / "old").mkdir()
    (runs / "old/result.json").write_text(json.dumps({k: v for k, v in failed("a", 0, "").items() if k != "settings"}))
    found = compare([runs], tmp_path / "out")
    assert "12.0 ± 2.0" in found.verdicts[0] and found.verdicts[1] == "5 runs are in no number above: see Problems."
    assert {p["status"] for p in found.problems} == {
        "failed",
        "interrupted",
        "running",
        "unreadable",
        "without settings",
    }
    assert "CUDA out of memory \\| here" in text(tmp_path / "out") and "not readable as JSON" in text(tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").open()))
    assert [row["protocol"] for row in rows if row["status"] == "failed"] == ["A"]
    page = (tmp_path / "out/comparison.html").read_text()
    assert "CUDA out of memory | here" in page


def test_only_failed_runs_still_give_a_report(tmp_path):
    found = compare([put(tmp_path / "runs", failed("a", 0, "no disk"))], tmp_path / "out")
    assert found.finished == 0 and found.verdicts[0] == "No run can be compared yet."
    assert "no disk" in text(tmp_path / "out") and all(path.stat().st_size > 1000 for path in found.pictures)


def test_a_sweep_lists_what_was_not_started(tmp_path, monkeypatch, capsys):
    runs = three(tmp_path / "runs")
    planned = [{"folder": f"../runs/run-{n:03}", "overrides": []} for n in range(6)]
    planned.append({"folder": str(tmp_path / "runs/gone"), "overrides": ["method=pi_model", "seed=3"]})
    put(runs, result("not part of the sweep", 20, 0, 0.01))
    (tmp_path / "sweep").mkdir()
    content = {"name": "labels", "command": "python run.py -m x", "runs": planned}
    (tmp_path / "sweep/sweep.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert command.main(["sweep"]) == 0
    said = text(tmp_path / "sweep")
    assert said.startswith("# Comparison: labels\n") and "python run.py -m x\n" in said
    assert "not started" in said and "method=pi_model seed=3" in said and "not part of" not in said
    printed = capsys.readouterr().out
    assert printed.startswith("20 labels: mean_teacher 12.0 ± 2.0 % beats") and "sweep/comparison.html" in printed


def test_runs_are_found_once_and_set_aside_ones_not(tmp_path):
    runs = three(tmp_path / "runs")
    (runs / "run-000").rename(runs / "run-000.old-1")
    (tmp_path / "copied.json").write_text(json.dumps(result("supervised", 20, 0, 0.20)))
    found = compare([runs, str(runs / "run-00[1-5]"), runs, tmp_path / "*.json"], tmp_path / "out")
    assert found.finished == 6 and not found.problems
    assert "copied once" not in text(tmp_path / "out") and "twice" not in text(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty", None, "no result.json in it"),
        ("gone", "", "there is no such file or folder"),
        ("broken", "{", "not readable as JSON"),
        ("other", "[]", "not a run's result"),
        ("old", json.dumps({k: v for k, v in result("a", 1, 0, 0.1).items() if k != "settings"}), "holds no settings"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, name, content, says):
    monkeypatch.chdir(tmp_path)
    if content is None or content:
        (tmp_path / name).mkdir()
    if content:
        (tmp_path / name / "result.json").write_text(content)
    assert command.main([name]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {name}") and says in printed.err and printed.err.count("\n") == 1
    assert not printed.out and not (tmp_path / "comparison").exists()


def test_nothing_to_compare_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing to compare"):
        compare([], tmp_path / "out")


@pytest.mark.parametrize("content", ["{", "{}", '{"runs": 3}', '{"runs": []}'])
def test_a_bad_sweep_file_is_one_line(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json: (cannot be used|names no runs)"):
        compare([tmp_path], tmp_path / "out")


def test_published_numbers_appear_for_their_data_set_and_methods(tmp_path):
    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    data = {"name": "cifar10", "train": 50000, "test": 10000, "classes": 10}
    runs = [result("mean_teacher", n, 0, 0.1, cifar, data=data) for n in (250, 4000)]
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    said = text(tmp_path / "out")
    assert "21.55 ± 1.48" in said and "47.32" in said and "broken" in said, "of Mean Teacher on CIFAR-10"
    assert "46.43" not in said and "4.35 ± 0.50" not in said, "neither of supervised nor on SVHN"
    svg = (tmp_path / "out/comparison.svg").read_text()
    assert "mean_teacher, published: Berthelot et al. 2019" in svg and "56.06" not in svg
    compare([three(tmp_path / "digits")], tmp_path / "other")
    assert "Published" not in text(tmp_path / "other")


def test_the_published_file_is_well_formed():
    rows = list(csv.DictReader((ROOT / "meanteacher/published.csv").open()))
    assert {row["dataset"] for row in rows} == {"cifar10", "cifar100", "svhn", "stl10"}
    assert {row["selection"] for row in rows} == {"last", "median of 20", "best on test", "unstated"}
    assert all(0 < float(row["error"]) < 100 and row["source"] and row["network"] for row in rows)
    assert all(row["label"] == "all" or int(row["label"]) for row in rows)
    identity = [tuple(row[k] for k in row if k not in ("error", "std", "runs")) for row in rows]
    assert len(identity) == len(set(identity))


def test_everything_is_escaped(tmp_path):
    runs = put(tmp_path / "runs", result("<b>x</b>|$a$", 20, 0, 0.1), failed("a", 1, "<script>alert(1)</script>"))
    compare([runs], tmp_path / "out", '<i>"title"</i>')
    page = (tmp_path / "out/comparison.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;x&lt;/b&gt;|$a$" in page
    assert "<script>alert" not in page and "<i>" not in page and "&lt;i&gt;" in page
    assert "<b>" not in text(tmp_path / "out").split("```")[0] and "&lt;b>x&lt;/b>\\|$a$" in text(tmp_path / "out")


def sensitivity(*weights: float) -> list[dict]:
    return [
        result("mean_teacher", 20, s, 0.2, {"method.weight": w, "method.decay": d})
        for w in weights
        for d in (0.9, 0.99)
        for s in (0, 1)
    ]


@pytest.mark.parametrize(
    ("runs", "axis"),
    [
        (sensitivity(0, 1, 10), "weight"),
        (sensitivity(-1, 1, 10), "weight"),
        (sensitivity(1, 10), "error (%); filled"),
        ([result("supervised", n, s, 0.2) for n in (20, 50, "all") for s in (0, 1)], "labeled images"),
        ([result("a", 20, s, 0.2, {"steps": n}) for n in (1, 2) for s in (0, 1)], "A: steps=1"),
        ([result("a", "all", 0, 0.0)], "error (%); filled"),
    ],
)
def test_the_picture_fits_the_runs(tmp_path, runs, axis):
    found = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert axis in found.files["comparison.svg"].read_text()
    assert all(path.stat().st_size > 5000 for path in found.pictures)


def test_as_a_command_without_torch(tmp_path):
    code = (
        "import sys; from meanteacher.comparison.command import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    arguments = [str(three(tmp_path / "runs")), "--out", str(tmp_path / "out"), "--title", "Mine"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert text(tmp_path / "out").startswith("# Mine\n") and not list((tmp_path / "out").glob(".*"))

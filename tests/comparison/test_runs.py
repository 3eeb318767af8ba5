"""Which runs a comparison reads and counts, what it reports of the others, and the command."""

import csv
import fcntl
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from comparison_runs import failed, markdown, put, result, three_seeds
from conftest import ROOT

from meanteacher.comparison import command
from meanteacher.comparison.command import compare
from meanteacher.comparison.results import read_run
from meanteacher.config import cli
from meanteacher.config.errors import UserError
from meanteacher.runs.result import Result
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.run_lock import is_held, lock_path


def test_contradicting_repeats_are_in_no_mean_and_copies_count_once(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    again = [result("mean_teacher", 20, 0, 0.7, digest="ffff", source="bbbb"), result("supervised", 20, 1, 0.24)]
    comparison = compare([put(runs, *again)], tmp_path / "out")
    # seed 0's two results disagree, so seeds 1 and 2 are left: (12 + 14) / 2; the copied supervised run counts once
    assert "mean_teacher 13.0 ± 1.4 %" in comparison.verdicts[0] and "n = 2" in comparison.verdicts[0]
    assert [problem["status"] for problem in comparison.problems] == ["repeated", "repeated"]
    assert "1 finished run occurs twice with equal scores; counted once." in markdown(tmp_path / "out")
    n = comparison.summary.set_index(["method", "network"])["n"]
    assert (n["mean_teacher", "teacher"], n["supervised", "average"]) == (2, 3)


def test_notes_name_mixed_hardware_source_and_devices(tmp_path):
    more = {"hardware": "a GPU", "source": "bbbb", "bitwise": False}
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 1, 0.3, **more))
    compare([runs], tmp_path / "out")
    for note in ("cost is not comparable", "different source code", "not bitwise repeatable: 1 run"):
        assert note in markdown(tmp_path / "out")


def test_unfinished_runs_are_listed_with_their_reason(tmp_path):
    runs = put(three_seeds(tmp_path / "runs"), failed("mean_teacher", 7, "CUDA out of\nmemory | here"))
    put(
        runs,
        result("mean_teacher", 20, 8, 0.9, status="interrupted"),
        result("mean_teacher", 20, 9, 0.9, status="running"),
    )
    (runs / "broken").mkdir()
    (runs / "broken/result.json").write_text("{")
    (runs / "old").mkdir()
    (runs / "old/result.json").write_text(json.dumps({k: v for k, v in failed("a", 0, "").items() if k != "settings"}))
    comparison = compare([runs], tmp_path / "out")
    assert (
        "12.0 ± 2.0" in comparison.verdicts[0]
        and comparison.verdicts[1] == "5 runs are in no number above: see Problems."
    )
    assert {p["status"] for p in comparison.problems} == {
        "failed",
        "interrupted",
        "running",
        "unreadable",
        "without settings",
    }
    assert "CUDA out of memory \\| here" in markdown(tmp_path / "out") and "not readable as JSON" in markdown(
        tmp_path / "out"
    )
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").open()))
    assert [row["protocol"] for row in rows if row["status"] == "failed"] == ["A"]
    page = (tmp_path / "out/comparison.html").read_text()
    assert "CUDA out of memory | here" in page


def test_an_edited_result_is_in_no_number_and_named(tmp_path, caplog):
    runs = three_seeds(tmp_path / "runs")
    path = runs / "run-005/result.json"
    Result.parse(json.loads(path.read_text())).write(path)
    assert not compare([runs], tmp_path / "out").problems
    path.write_text(path.read_text().replace('"error_last": 0.14', '"error_last": 0.04'))
    comparison = compare([runs], tmp_path / "out")
    (problem,) = comparison.problems
    assert comparison.finished == 5 and problem["status"] == "unreadable"
    reason = "does not match its checksum, so it was damaged or edited; restore"
    assert f"{path.parent} is in no number: {reason}" in caplog.text
    assert reason in markdown(tmp_path / "out") and str(path.parent) in markdown(tmp_path / "out")


def test_a_killed_run_is_told_from_a_running_one_by_its_lock(tmp_path, monkeypatch):
    """Both have the status `running` in result.json; the lock of a process that was killed is free."""
    folder, copied = tmp_path / "run", tmp_path / "copied.json"
    content = result("a", 20, 0, 0.1, status="running", command="python run.py seed=0")
    with RunDir(folder, content["digest"], fresh=False):
        (folder / "result.json").write_text(json.dumps(content))
        assert (read_run(folder / "result.json").status, read_run(folder / "result.json").reason) == (
            "running",
            "Running.",
        )
    monkeypatch.chdir(folder)
    for path in (folder / "result.json", Path("result.json")):
        run = read_run(path)
        assert run.status == "killed" and "Rerun the command to resume: python run.py seed=0" in run.reason
    shutil.copy("result.json", copied)
    run = read_run(copied)
    assert (run.status, run.reason) == ("running", "Running or crashed; rerun the command to resume.")
    assert compare([folder], tmp_path / "out").problems[0]["status"] == "killed"


def test_a_look_at_the_lock_keeps_no_run_from_starting(tmp_path):
    with RunDir(tmp_path / "run", "0123456789", fresh=False) as run_dir:
        (run_dir.path / "split.json").write_text("{}")
    with lock_path(tmp_path / "run").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with RunDir(tmp_path / "run", "0123456789", fresh=False):
            assert is_held(tmp_path / "run")
    assert is_held(tmp_path / "run") is False and is_held(tmp_path / "other") is None


def test_failed_runs_alone_still_give_a_report(tmp_path):
    comparison = compare([put(tmp_path / "runs", failed("a", 0, "no disk"))], tmp_path / "out")
    assert comparison.finished == 0 and comparison.verdicts[0] == "No run can be compared yet."
    assert "no disk" in markdown(tmp_path / "out") and all(path.stat().st_size > 1000 for path in comparison.pictures)


def test_sweep_lists_runs_that_were_not_started(tmp_path, monkeypatch, capsys):
    runs = three_seeds(tmp_path / "runs")
    planned = [{"folder": f"../runs/run-{n:03}", "overrides": []} for n in range(6)]
    planned.append({"folder": str(tmp_path / "runs/gone"), "overrides": ["method=pi_model", "seed=3"]})
    put(runs, result("not part of the sweep", 20, 0, 0.01))
    (tmp_path / "sweep").mkdir()
    content = {"name": "labels", "command": "python run.py -m x", "runs": planned}
    (tmp_path / "sweep/sweep.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert command.main(["sweep"]) == 0
    report = markdown(tmp_path / "sweep")
    assert report.startswith("# Comparison: labels\n") and "python run.py -m x\n" in report
    assert "not started" in report and "method=pi_model seed=3" in report and "not part of" not in report
    printed = capsys.readouterr().out
    assert printed.startswith("20 labels: mean_teacher 12.0 ± 2.0 % beats") and "sweep/comparison.html" in printed


def test_runs_are_read_once_and_renamed_folders_are_skipped(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    (runs / "run-000").rename(runs / "run-000.old-1")
    (tmp_path / "copied.json").write_text(json.dumps(result("supervised", 20, 0, 0.20)))
    comparison = compare([runs, str(runs / "run-00[1-5]"), runs, tmp_path / "*.json"], tmp_path / "out")
    assert comparison.finished == 6 and not comparison.problems
    assert "copied once" not in markdown(tmp_path / "out") and "twice" not in markdown(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "no result.json in it"),
        ("gone", "", "there is no such file or folder"),
        ("broken", "{", "not readable as JSON"),
        ("other", "[]", "not the result of a run"),
        ("old", json.dumps({k: v for k, v in result("a", 1, 0, 0.1).items() if k != "settings"}), "holds no settings"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, capsys, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is None or content:
        (tmp_path / name).mkdir()
    if content:
        (tmp_path / name / "result.json").write_text(content)
    assert cli.main(["compare", name]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {name}") and message in printed.err and printed.err.count("\n") == 1
    assert not printed.out and not (tmp_path / "comparison").exists()


def test_no_paths_raise_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing to compare"):
        compare([], tmp_path / "out")


@pytest.mark.parametrize("content", ["{", "{}", '{"runs": 3}', '{"runs": [{"folder": 3}]}', '{"runs": []}'])
def test_unusable_sweep_file_is_reported_in_one_line(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json: (cannot be used|names no runs)"):
        compare([tmp_path], tmp_path / "out")


def test_command_does_not_import_torch(tmp_path):
    code = (
        "import sys; from meanteacher.comparison.command import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    arguments = [str(three_seeds(tmp_path / "runs")), "--out", str(tmp_path / "out"), "--title", "Mine"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert markdown(tmp_path / "out").startswith("# Mine\n") and not list((tmp_path / "out").glob(".*"))


def test_runs_that_failed_before_training_are_left_out_of_folders_but_not_of_their_sweep(tmp_path):
    runs = three_seeds(tmp_path / "runs")
    at_start = {k: v for k, v in failed("mean_teacher", 7, "typo").items() if k != "steps"}
    put(runs, at_start, at_start)
    assert not compare([runs], tmp_path / "out").problems
    (runs / "run-007/metrics.jsonl").write_text('{"step": 50}\n')
    assert len(compare([runs], tmp_path / "out").problems) == 1, "a run that logged a number did not fail at its start"
    (tmp_path / "sweep").mkdir()
    planned = [{"folder": f"../runs/run-{n:03}", "overrides": []} for n in range(7)]
    (tmp_path / "sweep/sweep.json").write_text(json.dumps({"name": "s", "command": "c", "runs": planned}))
    (problem,) = compare([tmp_path / "sweep"], tmp_path / "sweep").problems
    assert (problem["status"], problem["reason"]) == ("failed", "typo")
    with pytest.raises(UserError, match="every run in it failed before training started; the first one: typo"):
        compare([runs / "run-006"], tmp_path / "out")


def test_terminal_defines_protocols_and_bold(tmp_path, capsys):
    runs = put(tmp_path / "runs", result("a", 20, 0, 0.1), result("a", 20, 0, 0.1, {"steps": 200}))
    assert command.main([str(runs), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Protocols, never mixed in a number: A: steps=100; B: steps=200." in printed
    assert "**bold**: the smallest mean among the networks that the methods are judged by" in printed

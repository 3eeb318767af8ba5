"""`scripts/gpu_study` on a CPU with tiny settings: nothing is repeated, lost, or started that cannot end in time."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from meanteacher.config.errors import UserError

FOLDER = ROOT / "scripts" / "gpu_study"
sys.path.insert(0, str(FOLDER))

import check  # noqa: E402
import pieces  # noqa: E402
import training  # noqa: E402
from pieces import Piece, Study  # noqa: E402

SMALL = [
    "trainer.device=cpu",
    "trainer.compile=never",
    "trainer.threads=1",
    "trainer.labeled_batch=8",
    "trainer.unlabeled_batch=8",
    "model=wrn_10_1",
]
BENCHMARK = ["method=vat", "label=40", "--images=512", "--rounds=1", "--steps=1", "--workers=0"]
RUN = ["experiment=quickstart", "label=20", "seed=0"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def load_main():
    """The function that runs a stage."""
    spec = importlib.util.spec_from_file_location("gpu_study", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def statuses(folder: Path) -> dict[str, str]:
    """The status of each piece of a stage."""
    return {file["piece"]: file["status"] for file in map(read, folder.glob("*.json")) if "piece" in file}


def python(folder: Path, name: str, program: str, guess: float = 1.0, kind: str = "kind") -> Piece:
    """A piece that runs a program, which may write its result to the file `argv[1]`."""
    return Piece(name, kind, ("-c", program, str(folder / f"{name}-result")), guess, folder / f"{name}-result")


WRITE = "import sys; open(sys.argv[1], 'w').write('{}')"


def test_the_stages_run_and_repeat_nothing(tmp_path, capsys):
    main, out = load_main(), ["--out", str(tmp_path)]
    assert main(["check", *out, "--", *SMALL, *BENCHMARK]) == 0
    assert statuses(tmp_path / "check") == dict.fromkeys(("run", "vat"), "passed")
    measured = read(tmp_path / "check/vat-measured.json")
    assert measured["metrics"]["train/loss"] > 0 and measured["hardware"] and not measured["captured"]

    assert main(["speed", *out, "--", *SMALL, *BENCHMARK]) == 0
    assert statuses(tmp_path / "speed") == dict.fromkeys(("benchmark-vat-wrn_10_1", "at-once"), "passed")
    assert read(tmp_path / "speed/benchmark-vat-wrn_10_1-measured.json")["ratio_to_plain_loop"]
    assert set(read(tmp_path / "speed/at-once-measured.json")["images_per_second"]) >= {"1", "2"}

    for stage, method in (("accuracy", "mean_teacher"), ("methods", "freematch")):
        command = [stage, *out, "--", *SMALL, *RUN, f"method={method}", "steps=4"]
        assert main(command) == 0
        assert statuses(tmp_path / stage) == {f"{method}-20-0": "passed"}
        piece = read(tmp_path / stage / f"{method}-20-0.json")
        assert read(tmp_path / piece["result"])["status"] == "finished"
        durations = (tmp_path / "durations.json").stat().st_mtime_ns
        capsys.readouterr()
        assert main([*command]) == 0
        assert "1 of 1 pieces have passed" in capsys.readouterr().out
        assert (tmp_path / "durations.json").stat().st_mtime_ns == durations
    assert set(read(tmp_path / "durations.json")) == {
        "check/run", "check/method", "speed/benchmark wrn_10_1", "speed/at once",
        "training/mean_teacher, 4 steps", "training/freematch, 4 steps",
    }  # fmt: skip


def test_a_skipped_test_does_not_pass(tmp_path):
    study = Study(tmp_path, "check", 200)
    tests = check.gpu_tests(study, "tests", "kind", "[vat]")
    expected = (0, None) if torch.cuda.is_available() else (1, "1 tests were skipped")
    assert (study.run([tests], 1), read(study.folder / "tests.json")["error"]) == expected


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path):
    settings = [*SMALL, *RUN, "method=mean_teacher", "steps=80", "eval_every=80", "trainer.checkpoint_minutes=1e-9"]
    command = [sys.executable, str(FOLDER), "accuracy", "--out", str(tmp_path), "--", *settings, "trainer.log_every=2"]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    metrics = "runs/digits/mean_teacher/label-20/seed-0/*/metrics.jsonl"
    until = time.monotonic() + 120
    while not (files := list(tmp_path.glob(metrics))) or len(files[0].read_text().splitlines()) < 3:
        assert study.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    study.send_signal(signal.SIGKILL)
    study.wait()
    lock, until = files[0].parent.with_name(files[0].parent.name + ".lock"), time.monotonic() + 60
    while is_running(lock):
        assert time.monotonic() < until, "the run outlives the study"
        time.sleep(0.05)
    result = files[0].parent / "result.json"
    assert read(result)["status"] == "interrupted" and statuses(tmp_path / "accuracy") == {}
    piece = training.training_run("again", "kind", {**as_dict(settings), "output": str(tmp_path / "runs")}, 100)
    assert piece.result == result and 0.2 <= piece.part_left() < 1
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    assert read(result)["status"] == "finished" and read(result)["attempts"] == 2
    assert "resume  after step" in (tmp_path / "accuracy/mean_teacher-20-0.log").read_text()


def is_running(lock: Path) -> bool:
    """Whether a process has the lock file of a run open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(lock):
                return True
        except OSError:
            continue
    return False


def as_dict(overrides: list[str]) -> dict[str, str]:
    return dict(override.split("=", 1) for override in overrides)


def test_a_budget_that_is_too_small_starts_nothing(tmp_path, capsys):
    assert load_main()(["accuracy", "--out", str(tmp_path), "--budget=30", "--", *SMALL, *RUN, "steps=4"]) == 1
    assert statuses(tmp_path / "accuracy") == {} and not (tmp_path / "runs").exists()
    assert capsys.readouterr().out.count("not started: it takes about 120 s") == 2


def test_what_is_known_about_a_kind_decides_what_fits(tmp_path, capsys):
    study = Study(tmp_path, "stage", pieces.STOP_SECONDS + 20)
    slow = python(study.folder, "slow", WRITE, guess=1000, kind="slow kind")
    assert study.run([slow, python(study.folder, "one", WRITE)], 1) == 1
    assert statuses(study.folder) == {"one": "passed"}
    study.durations.record(python(study.folder, "another", WRITE, kind="slow kind"), 1.0)
    again = Study(tmp_path, "stage", pieces.STOP_SECONDS + 20)
    assert again.run([slow], 1) == 0 and statuses(study.folder) == {"one": "passed", "slow": "passed"}
    assert again.durations.seconds["slow kind"]["slow"] < 20


def test_a_failure_is_recorded_with_its_first_error_line_and_the_rest_goes_on(tmp_path, capsys):
    study = Study(tmp_path, "stage", 60)
    programs = {
        "raises": "print('warming up'); print('more'); raise RuntimeError('CUDA error: misaligned address')",
        "reports": "import sys; sys.exit('error: label=7: too few\\nmore')",
        "killed": "import os; os.kill(os.getpid(), 9)",
        "empty": "",
        "works": WRITE,
    }
    assert study.run([python(study.folder, name, program) for name, program in programs.items()], 2) == 1
    errors = {name: read(study.folder / f"{name}.json")["error"] for name in programs}
    assert errors == {
        "raises": "RuntimeError: CUDA error: misaligned address",
        "reports": "error: label=7: too few",
        "killed": "killed by signal 9",
        "empty": "exit status 0",
        "works": None,
    }
    assert "1 of 5 pieces have passed; to go on, rerun the command" in capsys.readouterr().out
    mended = python(study.folder, "raises", WRITE)
    assert Study(tmp_path, "stage", 60).run([mended, python(study.folder, "works", "raise SystemExit(1)")], 1) == 1
    assert statuses(study.folder)["raises"] == "passed" and statuses(study.folder)["works"] == "failed"


def test_the_end_of_the_budget_stops_what_is_running(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "STOP_SECONDS", 2)
    study = Study(tmp_path, "stage", 3)
    began = time.monotonic()
    assert study.run([python(study.folder, "endless", "import time; time.sleep(100)", guess=0.1)], 1) == 1
    assert time.monotonic() - began < 6 and statuses(study.folder) == {"endless": "interrupted"}


def test_the_plan_takes_the_most_steps_that_fit(tmp_path):
    measured = {"images_per_step": 100, "start_seconds": 10, "images_per_second": {"1": 1000, "2": 1500, "4": 1600}}
    plan = training.make_plan(measured, 6, 600)
    assert plan == {"steps": 1400, "at_once": 2, "seconds_per_run": 200}  # (200 − 10) / (2 · 100 / 1500) = 1425
    assert training.make_plan(measured, 1, 60)["at_once"] == 1
    with pytest.raises(UserError, match="give a larger --budget"):
        training.make_plan(measured, 6, 60)
    study = Study(tmp_path, "accuracy", 600)
    with pytest.raises(UserError, match="run the stage speed first"):
        training.accuracy(study, {})
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed/at-once-measured.json").write_text(json.dumps(measured))
    runs, at_once = training.accuracy(study, {})
    later, _ = training.methods(Study(tmp_path, "methods", 60), {})
    assert at_once == 2 and len(runs) == 18 and len(later) == 9
    steps = {argument for piece in runs + later for argument in piece.arguments if argument.startswith("steps=")}
    assert steps == {f"steps={read(tmp_path / 'training.json')['steps']}"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["speed", "--", "model"], "model: an override is key=value"),
        (["accuracy", "--", "steps=4", "labels=3"], "labels: there is no such key"),
        (["accuracy", "--", "steps=4", "trainer.device=gpu"], "trainer.device=gpu: should be"),
    ],
)
def test_bad_input_is_reported_in_one_line(arguments, message, tmp_path):
    command = [sys.executable, str(FOLDER), arguments[0], "--out", str(tmp_path), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1

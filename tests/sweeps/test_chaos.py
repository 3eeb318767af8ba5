"""A sweep under random kills, with two launchers at once, or on a disk that fills up, ends in the undisturbed table."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, TINY

SWEEP = ["-m", *TINY, "steps=60", "eval_every=20", "method=supervised,mean_teacher", "label=20", "seed=range(10)"]
OFTEN = ["trainer.checkpoint_minutes=0.0005", "hydra.sweeper.on_failure=retry:3"]
LAUNCHERS = ("two_at_a_time", "basic")
KILLS = 8
FILLS = 3


def start(folder: Path, launcher: str, *more: str, log: Path | None = None) -> subprocess.Popen:
    """Start the sweep in `folder`. more: further overrides. log: the file for its messages, by default in `folder`."""
    with (log or folder / f"stderr-{launcher}").open("a") as stderr:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *SWEEP, *OFTEN, f"hydra/launcher={launcher}", *more],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=stderr,
        )


def table(folder: Path) -> bytes:
    (path,) = folder.glob("outputs/sweeps/*/comparison.json")
    content = json.loads(path.read_text())
    errors = [[row[key] for key in ("method", "seed", "network", "error_last")] for row in content["runs"]]
    return json.dumps([content["summary"], sorted(errors), content["problems"]], sort_keys=True).encode()


def count(folder: Path, status: str) -> int:
    results = (json.loads(path.read_text()) for path in folder.glob("outputs/digits/*/*/*/*/result.json"))
    return sum(result["status"] == status for result in results)


def kill_one(processes: dict[str, subprocess.Popen], draw: random.Random) -> None:
    """Kill a launcher, or one of its workers, with SIGKILL."""
    victims = []
    for process in processes.values():
        with suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            victims += [parent, *parent.children(recursive=True)]
    with suppress(psutil.Error, IndexError):
        draw.choice(victims).send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_the_final_table_of_a_disturbed_sweep_is_the_undisturbed_one(tmp_path):
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir(), wild.mkdir()
    assert start(calm, "basic").wait(timeout=900) == 0
    draw, kills = random.Random(0), 0
    processes = {launcher: start(wild, launcher) for launcher in LAUNCHERS}
    deadline, done_at_kill = time.time() + 1500, -1
    while any(process.poll() is None for process in processes.values()):
        assert time.time() < deadline, (wild / "stderr-basic").read_text()
        time.sleep(draw.uniform(0.05, 0.5))
        done = count(wild, "finished")
        if kills < KILLS and done_at_kill < done < 20 and count(wild, "running"):
            kill_one(processes, draw)
            kills, done_at_kill = kills + 1, done
        for launcher, process in processes.items():
            if process.poll() is not None and count(wild, "finished") < 20:
                processes[launcher] = start(wild, launcher)
    assert start(wild, "basic").wait(timeout=300) == 0
    results = [json.loads(path.read_text()) for path in wild.glob("outputs/digits/*/*/*/*/result.json")]
    assert kills == KILLS and any(result["attempts"] > 1 for result in results), "the kills hit no run"
    assert table(wild) == table(calm)


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of 24 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the space that is left."""
    with (ballast := folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


@pytest.mark.slow
def test_a_sweep_on_a_disk_that_fills_up_ends_in_the_undisturbed_table(tmp_path, small_disk):
    few, log = ["seed=range(3)", "steps=120", "eval_every=40"], tmp_path / "log"
    (tmp_path / "calm").mkdir()
    assert start(tmp_path / "calm", "basic", *few).wait(timeout=300) == 0
    fills, done_at_fill, deadline = 0, -1, time.time() + 400
    process = start(small_disk, "basic", *few, log=log)
    while process.poll() is None or fills < FILLS:
        assert time.time() < deadline, log.read_text()
        if process.poll() is not None:
            assert process.returncode in (0, 1), log.read_text()
            process = start(small_disk, "basic", *few, log=log)
        if fills < FILLS and done_at_fill < (done := count(small_disk, "finished")) and count(small_disk, "running"):
            ballast = fill(small_disk)
            time.sleep(5)
            ballast.unlink()
            fills, done_at_fill = fills + 1, done
        time.sleep(0.05)
    while process.returncode:
        assert time.time() < deadline, log.read_text()
        process = start(small_disk, "basic", *few, log=log)
        process.wait(timeout=300)
    assert "No space left on device" in log.read_text() and "Traceback" not in log.read_text()
    assert table(small_disk) == table(tmp_path / "calm")

"""The processes of a run on several devices are started, watched and ended, and an error is told once."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT, TINY, command, parsed

from meanteacher.config.errors import UserError
from meanteacher.config.settings import TrainerSettings
from meanteacher.runs import devices
from meanteacher.runs.result import Result
from meanteacher.training.ranks import Ranks

SLURM = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "40017",
    "SLURM_STEP_ID": "1",
}
RENDEZVOUS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([0, -9], "process 1 of 2 was ended by SIGKILL, and the others have stopped; rerun the command"),
        ([1, -6], "process 1 of 2 was ended by SIGABRT"),
        ([1, 1], "a process of this run failed, as told above"),
    ],
)
def test_one_line_tells_why_the_processes_ended(codes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        devices.check(codes, tmp_path, stopped=False)


def test_the_error_of_the_first_process_is_told(tmp_path):
    devices.check([0, 0], tmp_path, stopped=False)
    for rank in (1, 0):
        (tmp_path / f"error-{rank}").write_text(f"bad value in {rank}")
    with pytest.raises(UserError, match="^bad value in 0$"):
        devices.check([1, -9], tmp_path, stopped=False)
    with pytest.raises(KeyboardInterrupt):
        devices.check([1, 130], tmp_path, stopped=True)


def test_the_wait_ends_soon_after_one_has_failed(monkeypatch):
    monkeypatch.setattr(devices, "GRACE_SECONDS", 0.2)
    processes = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sh", "-c", "exit 3"])]
    assert devices.wait(processes) is False
    assert [process.poll() for process in processes] == [None, 3]
    processes[0].kill()
    processes[0].wait()


def test_a_signal_is_passed_on_to_the_first_process_alone():
    waits = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sh", "-c", "sleep 1"])]
    sender = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -HUP {os.getpid()}"])
    assert devices.wait(waits) is True
    sender.wait()
    assert [process.wait() for process in waits] == [-signal.SIGTERM, 0]


def test_the_number_of_devices(monkeypatch):
    keys = parsed(*TINY).trainer.model_dump()
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 8)
    for device, count, expected in (("auto", 3, 3), ("auto", "auto", 8), ("cuda", "auto", 8), ("cpu", "auto", 1)):
        chosen = TrainerSettings(**keys | {"device": device, "devices": count})
        assert devices.count_devices(chosen) == expected
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 0)
    assert devices.count_devices(TrainerSettings(**keys | {"device": "auto", "devices": "auto"})) == 1


def test_the_tasks_of_a_slurm_step_are_the_processes_of_a_run(monkeypatch):
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="node1\nnode2\n"))
    with monkeypatch.context() as patch:
        for name in RENDEZVOUS:
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setattr(os, "environ", os.environ.copy() | SLURM)
        devices.use_slurm_step()
        assert Ranks.from_environment() == Ranks(3, 4, 1, 2)
        assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("node1", "20018")


def test_a_job_of_one_task_is_a_run_by_itself(monkeypatch):
    monkeypatch.setattr(os, "environ", {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"})
    devices.use_slurm_step()
    assert Ranks.from_environment() == Ranks() and not Ranks().together


@pytest.mark.slow
def test_the_command_trains_on_two_processes_and_ends_in_one_line_when_one_is_killed(tmp_path):
    arguments = [*TINY, "method=fixmatch", "trainer.threads=1", "hydra.run.dir=run"]
    failed = command(*arguments, "trainer.devices=2", "trainer.compile=always", cwd=tmp_path)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1].startswith("error: trainer.compile=always")
    finished = command(*arguments, "trainer.devices=2", cwd=tmp_path)
    assert finished.returncode == 0 and finished.stderr.count("test error of the average") == 1, finished.stderr
    assert Result.read(tmp_path / "run" / "result.json").devices == 2
    again = command(*arguments, cwd=tmp_path)
    assert "this run is finished" in again.stderr

    long = [sys.executable, str(ROOT / "run.py"), *TINY, "steps=100000", "eval_every=100000", "trainer.devices=2"]
    with subprocess.Popen([*long, "hydra.run.dir=long"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not process.stderr.readline().startswith("speed"):
            pass
        children = [child for child in psutil.Process(process.pid).children() if child.cmdline()[-2:] == ["1", "2"]]
        children[0].kill()
        killed = time.monotonic()
        assert "process 1 of 2 was ended by SIGKILL" in process.stderr.read().splitlines()[-1]
        assert process.wait() == 1 and time.monotonic() - killed < 30


@pytest.mark.slow
def test_torchrun_trains_on_two_processes(tmp_path):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "meanteacher"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def torchrun(folder: str, *overrides: str) -> subprocess.CompletedProcess:
        arguments = [*start, "train", *TINY, f"hydra.run.dir={folder}", *overrides]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)

    for override, message in (("seed=a", "seed=a: should be"), ("label=5", "label=5: digits has 10 classes")):
        failed = torchrun("failed", override)
        assert failed.returncode == 1 and failed.stderr.count("error: ") == 1, failed.stderr
        assert f"error: {message}" in failed.stderr and f"traceback : {message}" in failed.stderr.split("Root Cause")[1]
    done = torchrun("run")
    assert done.returncode == 0 and done.stderr.count("test error of the student") == 1, done.stderr
    assert Result.read(tmp_path / "run" / "result.json").devices == 2

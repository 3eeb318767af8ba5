"""A run on several devices: the processes that torchrun or Slurm has started, or that this module starts."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import psutil
import torch

from meanteacher.config.console import only_errors
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices, Settings, TrainerSettings
from meanteacher.runs.result import Result
from meanteacher.runs.run import follow, run
from meanteacher.training import signals
from meanteacher.training.ranks import ALONE, Ranks

GRACE_SECONDS = 10
"""After one process has failed, the time that the others have to notice it and to finish writing their files."""

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """What the processes of a run need to know; see `run`. swept: whether a sweep starts the run."""

    settings: Settings
    choices: Choices
    path: Path
    command: str
    swept: bool

    def to_json(self) -> str:
        """The job for `from_json`, with an absolute path."""
        job = {"settings": self.settings.as_dict(), "choices": self.choices.model_dump()}
        return json.dumps(job | {"path": str(self.path.absolute()), "command": self.command, "swept": self.swept})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The job that `to_json` wrote."""
        job = json.loads(text)
        settings, choices = Settings(**job["settings"]), Choices(**job["choices"])
        return cls(settings, choices, Path(job["path"]), job["command"], job["swept"])

    def run(self, wait: bool, ranks: Ranks = ALONE) -> Result:
        """`run` in this process. wait: wait while others train the same run."""
        return run(self.settings, self.choices, self.path, self.command, not self.swept, wait, ranks)


def run_on_devices(job: Job, wait: bool) -> Result | None:
    """`run`, on as many devices as `trainer.devices` says, or in the processes of torchrun or `srun`.

    wait: wait while others train the same run. On several devices, a job of a sweep always waits. Returns None in a
    process of torchrun or `srun` that is not the main one. Raises UserError also if a process was killed.
    """
    use_slurm_step()
    trainer = job.settings.trainer
    ranks, count = Ranks.from_environment(), count_devices(trainer)
    if ranks.together:
        if trainer.devices not in (1, "auto"):
            raise UserError(f"trainer.devices={count} starts processes by itself: leave it out under torchrun or srun")
        with ranks.connected():
            return take_part(job, ranks)
    return job.run(wait) if count == 1 else start(count, job)


def take_part(job: Job, ranks: Ranks) -> Result | None:
    """Train as one of the processes of a run. Returns the result in the main one, None in the others."""
    if ranks.main:
        return job.run(job.swept, ranks)
    return follow(job.settings, job.choices, job.path, ranks)


def count_devices(trainer: TrainerSettings) -> int:
    """The number of devices; `auto` is all GPUs of this machine, or 1 without GPUs."""
    if trainer.devices != "auto":
        return trainer.devices
    return max(torch.cuda.device_count(), 1) if trainer.device in ("auto", "cuda") else 1


def use_slurm_step() -> None:
    """In a task of a Slurm step with several tasks, set the environment variables that torchrun sets for a process."""
    environment = os.environ
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "RANK" in environment:
        return
    nodes = environment["SLURM_STEP_NODELIST"]
    names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True).stdout
    os.environ |= {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": environment["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0].partition(",")[0],
        "MASTER_ADDR": names.split()[0],
        "MASTER_PORT": str(20_000 + (int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])) % 20_000),
    }


def start(count: int, job: Job) -> Result:
    """Run in `count` processes on this machine. Raises UserError if one fails, or KeyboardInterrupt if stopped."""
    with TemporaryDirectory(prefix="meanteacher-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(job.to_json(), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
        environment.setdefault("GLOO_SOCKET_IFNAME", loopback())
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "meanteacher.runs.process", name, str(rank), str(count)],
                env=environment,
                stdin=subprocess.PIPE,  # its end tells the process that this one has ended
                start_new_session=True,  # Ctrl-C reaches this process, which passes it on once
            )
            for rank in range(count)
        ]
        try:
            stopped = wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        check([process.returncode for process in processes], folder, stopped)
    result = Result.read(job.path / "result.json")
    if result.status == "interrupted" and signals.last_signal is None:
        signals.last_signal = signal.SIGTERM  # one of the processes has received it
    return result


def loopback() -> str:
    """The network interface of the address 127.0.0.1."""
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, addresses in interfaces if any(a.address == "127.0.0.1" for a in addresses))


def wait(processes: list[subprocess.Popen]) -> bool:
    """Wait for the processes, and pass signals on to the main one. Returns whether a stop signal has arrived.

    If one of them fails, the others have `GRACE_SECONDS` left.
    """
    passed_on, deadline = 0, float("inf")
    with only_errors(), signals.stop_signals() as stop, signals.save_requests() as requests:
        while None in (codes := [process.poll() for process in processes]) and time.monotonic() < deadline:
            if len(stop) > passed_on:
                processes[0].send_signal(signal.SIGTERM)
            elif requests:
                processes[0].send_signal(signal.SIGUSR1)
            passed_on = len(stop)
            requests.clear()
            if any(codes):
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            time.sleep(POLL_SECONDS)
    return bool(stop)


def check(codes: list[int], folder: Path, stopped: bool) -> None:
    """Raise the error of the processes that ended with these exit statuses, if any.

    folder: where a process has written what its error says. stopped: whether a signal has ended them.
    """
    if not any(codes):
        return
    if stopped:
        raise KeyboardInterrupt
    if messages := sorted(folder.glob("error-*")):
        raise UserError(messages[0].read_text(encoding="utf-8"))
    for rank, code in enumerate(codes):
        if code < 0:
            raise UserError(
                f"process {rank} of {len(codes)} was ended by {signal.Signals(-code).name}, and the others have "
                "stopped; rerun the command to resume"
            )
    raise UserError("a process of this run failed, as told above; rerun the command to resume")

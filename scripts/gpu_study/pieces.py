"""Runs pieces of work within a time budget, each in its own process. Pieces that have passed are not repeated."""

import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]

STOP_SECONDS = 15
"""The last part of the budget: what is still running is stopped, and training runs save a checkpoint."""

POLL_SECONDS = 0.1

PR_SET_PDEATHSIG = 1
"""An option of `prctl`, from Linux's prctl.h."""

ERROR = re.compile(r"error: |E  +\S|[\w.]*(Error|Exception)\b")
"""What a line about an error starts with, in the output of this package, of pytest and of Python."""


@dataclass(frozen=True)
class Piece:
    """A command whose process writes the file `result`.

    name: of the piece's files. kind: pieces of one kind take about as long. arguments: of Python. guess: seconds, until
    a piece of this kind has been timed. problem: called after exit status 0, returns what is wrong with the result.
    part_left: the part of the work that an earlier, interrupted process has left.
    """

    name: str
    kind: str
    arguments: tuple[str, ...]
    guess: float
    result: Path
    problem: Callable[[], str | None] = lambda: None
    part_left: Callable[[], float] = lambda: 1.0

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(["python", *self.arguments])


class Durations:
    """The seconds that pieces took, by kind and name, in a file that is written after each piece."""

    def __init__(self, path: Path):
        self.path = path
        self.seconds: dict[str, dict[str, float]] = read_json(path) or {}

    def estimate(self, piece: Piece) -> float:
        """The seconds that the piece will take: as long as before, or as the slowest of its kind, or the guess."""
        known = self.seconds.get(piece.kind, {})
        return known.get(piece.name, max(known.values(), default=piece.guess)) * piece.part_left()

    def record(self, piece: Piece, seconds: float) -> None:
        """Keep what a whole piece took."""
        self.seconds.setdefault(piece.kind, {})[piece.name] = round(seconds, 1)
        write_atomically(self.path, json.dumps(self.seconds, indent=1) + "\n")


class Study:
    """The pieces of one stage, whose files are in `out`/`stage`. budget: seconds from now on."""

    def __init__(self, out: Path, stage: str, budget: float):
        self.out, self.stage, self.budget = out.absolute(), stage, budget
        self.end = time.monotonic() + budget - STOP_SECONDS
        self.folder = self.out / stage
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out={out}: cannot be written ({error.strerror}); choose another folder") from None
        self.durations = Durations(self.out / "durations.json")
        self.running: dict[Piece, tuple[subprocess.Popen, float]] = {}

    @property
    def seconds_left(self) -> float:
        """Seconds in which pieces can run."""
        return self.end - time.monotonic()

    def passed(self, piece: Piece) -> bool:
        """Whether the piece has passed, with the same command."""
        earlier = read_json(self.folder / f"{piece.name}.json") or {}
        return earlier.get("status") == "passed" and earlier.get("command") == piece.command

    def run(self, pieces: list[Piece], at_once: int) -> int:
        """Run the pieces that have not passed, `at_once` of them at a time. Returns 0 if all have passed, else 1."""
        waiting = [piece for piece in pieces if not self.passed(piece)]
        self.print_plan(pieces, waiting, at_once)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < at_once:
                    self.start(waiting.pop(0))
                for piece in list(self.running):
                    self.collect(piece)
                if self.seconds_left < 0:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            self.stop()
        unfinished = [piece.name for piece in pieces if not self.passed(piece)]
        if unfinished:
            print(f"{len(pieces) - len(unfinished)} of {len(pieces)} pieces have passed; to go on, rerun the command")
        return int(bool(unfinished))

    def print_plan(self, pieces: list[Piece], waiting: list[Piece], at_once: int) -> None:
        """Print what is finished, what will run, and for how long."""
        print(f"{self.stage}: {len(pieces) - len(waiting)} of {len(pieces)} pieces have passed, {at_once} at a time")
        seconds = [self.durations.estimate(piece) for piece in waiting]
        for piece, estimate in zip(waiting, seconds, strict=True):
            print(f"  {piece.name:<40} about {estimate:.0f} s")
        total = max([sum(seconds) / at_once, *seconds, 0])
        print(f"about {total:.0f} s, of {max(self.seconds_left, 0):.0f} s in the budget", flush=True)

    def start(self, piece: Piece) -> None:
        """Start the piece, or report that it does not fit into the rest of the budget."""
        estimate = self.durations.estimate(piece)
        if estimate > self.seconds_left:
            left = max(self.seconds_left, 0)
            print(f"{piece.name}: not started: it takes about {estimate:.0f} s, {left:.0f} s are left", flush=True)
            return
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with (self.folder / f"{piece.name}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, *piece.arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
        self.running[piece] = process, time.monotonic()

    def collect(self, piece: Piece, stopped: bool = False) -> None:
        """Write down how the piece ended, if it has ended. stopped: by `stop`, unless it has ended just before."""
        process, started = self.running[piece]
        if (status := process.poll()) is None:
            return
        del self.running[piece]
        seconds = time.monotonic() - started
        if stopped and status:
            self.write(piece, "interrupted", seconds)
            return
        error = self.find_error(piece, status)
        self.write(piece, "failed" if error else "passed", seconds, error)

    def find_error(self, piece: Piece, status: int) -> str | None:
        """What went wrong, in one line; None if nothing did."""
        if status == 0 and piece.result.exists():
            return piece.problem()
        lines = (self.folder / f"{piece.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return next((line.strip() for line in lines if ERROR.match(line)), ended)

    def write(self, piece: Piece, status: str, seconds: float, error: str | None = None) -> None:
        """Write the piece's file, and print the line about it."""
        if status == "passed":
            seconds = (read_json(piece.result) or {}).get("wall_seconds", seconds)  # of all attempts of a run
            self.durations.record(piece, seconds)
        content = {
            "piece": piece.name,
            "status": status,
            "error": error,
            "seconds": round(seconds, 1),
            "command": piece.command,
            "result": os.path.relpath(piece.result, self.out),
        }
        write_atomically(self.folder / f"{piece.name}.json", json.dumps(content, indent=1) + "\n")
        print(f"{piece.name}: {status} after {seconds:.0f} s{f': {error}' if error else ''}", flush=True)

    def stop(self) -> None:
        """Stop what is running. Training runs save a checkpoint."""
        killed_at = time.monotonic() + STOP_SECONDS
        for process, _ in self.running.values():
            process.terminate()
        for piece, (process, _) in list(self.running.items()):
            try:
                process.wait(max(0, killed_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.collect(piece, stopped=True)


def end_with_parent() -> None:
    """Have Linux terminate this process when its parent ends, even if that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def read_json(path: Path) -> dict | None:
    """The content of a JSON file; None if there is none, or if it is another file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

"""Checks the steps of one method: compiled, captured, with a finite loss, and the same bits after an interruption.

Usage: `python scripts/gpu_study/check_method.py OUT.json ARGUMENTS`, with the arguments of `meanteacher benchmark`.
"""

import json
import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from meanteacher.benchmark.command import compose_settings, parse
from meanteacher.benchmark.ours import CHOICES
from meanteacher.benchmark.timing import time_seconds
from meanteacher.config.cli import run_command
from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.settings import Choices
from meanteacher.runs import report
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training.device import peak_memory
from meanteacher.training.eta import WARMUP_STEPS

STEPS = WARMUP_STEPS + 2
"""Steps before the interruption, and after it: enough for a capture and replays."""

COMPARED = ("method", "average", "optimizer", "meter", "pseudo_labels")
"""Parts of the state that must be the same to the bit."""


class Warnings(logging.Handler):
    """Keeps the package's warnings."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def take_steps(session: Session) -> list[float]:
    """Train `STEPS` steps; returns the seconds of each."""
    trainer, seconds = session.trainer, []
    for _ in range(STEPS):
        seconds.append(time_seconds(session.device, lambda: trainer.train_step(trainer.step)))
        trainer.step += 1
    return seconds


def compare(whole: dict, resumed: dict) -> None:
    """Raises UserError with the first difference if two states are not the same to the bit."""
    for part in COMPARED:
        try:
            torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
        except AssertionError as error:
            raise UserError(f"{part} differs after a resume: {' '.join(str(error).split())}") from None


def check(arguments: list[str]) -> dict:
    """What was measured. Raises UserError if the step was not captured, is not finite or differs after a resume."""
    options, overrides = parse(arguments)
    settings, choices = (
        compose_settings(options, overrides),
        Choices(**CHOICES, model=options.model, method=options.method),
    )
    logging.getLogger("meanteacher").addHandler(warnings := Warnings())
    with TemporaryDirectory() as folder, RunDir(Path(folder) / "run", "", False) as run_dir:
        session = Session(settings, choices, run_dir, show_progress=False)
        seconds, step = take_steps(session), session.trainer.train_step
        captured = getattr(step.run_on_device, "graph", None) is not None
        if step.compiled and session.device.type == "cuda" and not captured:
            raise UserError("; ".join(["the step was not captured", *warnings.messages]))
        session.checkpoints.save(session.trainer.state_dict())
        take_steps(session)
        resumed = Session(settings, choices, run_dir, show_progress=False)
        if resumed.trainer.step != STEPS:
            raise UserError("; ".join(["the checkpoint was not used", *warnings.messages]))
        take_steps(resumed)
        compare(session.trainer.state_dict(), resumed.trainer.state_dict())
        return {
            "metrics": session.trainer.mean_metrics(),
            "captured": captured,
            "compiled": step.compiled,
            "precision": step.precision,
            "first_step_seconds": seconds[0],
            "last_step_seconds": seconds[-1],
            "peak_memory_bytes": peak_memory(session.device),
            "warnings": warnings.messages,
            **report.environment(session.device),
        }


def main(arguments: list[str]) -> int:
    """Check and write the file; returns the exit status."""
    path, *rest = arguments
    started = time.perf_counter()
    measured = check(rest)
    write_atomically(Path(path), json.dumps(measured | {"seconds": time.perf_counter() - started}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))

"""The command `meanteacher train`: composes the configuration with Hydra and trains one run or a sweep."""

import logging
import os
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path

os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from meanteacher.config.composing import compose_run, missing_tuning
from meanteacher.config.console import log_to_console, one_line
from meanteacher.config.errors import LostProcess, UserError
from meanteacher.config.locations import CONF
from meanteacher.config.started_together import leave_to_main_process, rank
from meanteacher.runs.on_failure import stop_file_of_job
from meanteacher.runs.run_lock import RunningElsewhere
from meanteacher.training import signals

log = logging.getLogger("meanteacher")

REQUIRED = ("dataset", "model", "method", "optimizer", "schedule", "augment", "trainer", "logger")
"""Groups without which there is no run; logger=jsonl adds none to metrics.jsonl."""

failures: list[Exception] = []
"""Errors of runs in this process. Raised through Hydra, each would take several lines."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(root: DictConfig) -> float | None:
    """Train one run. Returns the validation error of the network to deploy, for sweepers that optimize, or None.

    A job of a multirun records its failure in result.json and returns, so that the others go on, unless they are to
    stop. It returns at once if another process trains the run and the sweeper comes back to it.
    """
    hydra_config = HydraConfig.get()
    swept = hydra_config.mode == RunMode.MULTIRUN
    stop = stop_file_of_job(hydra_config) if swept else None
    if swept and (signals.last_signal is not None or (stop and stop.exists())):
        return None
    log_to_console(logging.ERROR)
    try:
        return train(root, swept)
    except KeyboardInterrupt:
        if not swept:
            raise
        signals.last_signal = signal.SIGINT  # raised through joblib, it would end the other runs before they have saved
        return None
    except Exception as error:
        if not swept and not rank() and not isinstance(error, RunningElsewhere):
            remove_empty(Path(hydra_config.runtime.output_dir), Path(os.path.abspath(str(root.output))))
        if not swept and not isinstance(error, (UserError, OSError)):
            raise
        if swept and is_left_out(error, hydra_config):
            return None
        place = f"{hydra_config.runtime.output_dir}: " if swept else ""
        log.error("error: %s%s", place, one_line(error))
        if not swept or not reports_failures(hydra_config):
            failures.append(error)
        if stop:
            stop.touch()
        return None
    finally:
        if signals.orphaned():
            os._exit(1)


def remove_empty(folder: Path, output: Path) -> None:
    """Remove a run folder in which nothing was written, and each empty folder around it up to the output folder.

    Hydra creates the run folder before a run is checked.
    """
    with suppress(OSError):  # one that is not empty
        for each in (folder, *folder.parents):
            if each == Path.cwd():
                return
            if each.exists():
                each.rmdir()
            if output not in each.parents:
                return


def is_left_out(error: Exception, hydra_config: DictConfig) -> bool:
    """Whether the error says that another process trains the run, and the sweeper comes back to it later."""
    return isinstance(error, RunningElsewhere) and runs_elsewhere(hydra_config) == "skip"


def reports_failures(hydra_config: DictConfig) -> bool:
    """Whether the sweeper itself reports runs that are not finished at its end, after it may have repeated them."""
    return OmegaConf.select(hydra_config, "sweeper.on_failure") is not None


def runs_elsewhere(hydra_config: DictConfig) -> str:
    """What to do with a run that another process trains: `skip` or `wait`."""
    return OmegaConf.select(hydra_config, "sweeper.running_elsewhere", default="wait")


def train(root: DictConfig, swept: bool) -> float | None:
    """Check the settings, train, and return the validation error of the network to deploy, or None."""
    hydra_config = HydraConfig.get()
    settings, choices = compose_run(root, hydra_config, hydra_config.job.name if swept else None)
    if sentence := missing_tuning(choices):
        log.warning("note    %s", sentence)
    from meanteacher.runs.devices import Job, run_on_devices

    command = command_of_job(hydra_config) if swept else command_line()
    wait = swept and runs_elsewhere(hydra_config) == "wait"
    result = run_on_devices(Job(settings, choices, Path(hydra_config.runtime.output_dir), command, swept), wait)
    if result is None:
        return None
    if result.status == "interrupted":
        signals.forward_signal()
    validation = result.validation or {}
    return next((scores.error_last for scores in reversed(validation.values())), None)


def program() -> list[str]:
    """How this program was called, up to its arguments."""
    return ["python", sys.argv[0]] if Path(sys.argv[0]).name == "run.py" else ["meanteacher", "train"]


def command_line() -> str:
    """The command of this process."""
    return shlex.join([*program(), *sys.argv[1:]])


def command_of_job(hydra_config: DictConfig) -> str:
    """The command that repeats one job of a multirun alone."""
    alone = ["hydra.mode=RUN"] if hydra_config.runtime.choices.sweep != "none" else []
    return shlex.join([*program(), *hydra_config.overrides.task, *alone])


def main(arguments: list[str]) -> int:
    """Run Hydra on these arguments; returns the exit status. Raises UserError and Hydra's errors."""
    log_to_console(logging.CRITICAL if rank() else logging.INFO)
    try:
        start(arguments)
    except Exception as error:
        leave_to_main_process(error)
        raise
    if failures:
        leave_to_main_process(failures[0])
        if rank() and not isinstance(failures[0], LostProcess):
            print(f"error: {one_line(failures[0])}", file=sys.stderr)
    return 130 if signals.last_signal is not None else 1 if failures else 0


def start(arguments: list[str]) -> None:
    """Check the arguments and call `job` through Hydra."""
    check_arguments(arguments)
    sys.argv[1:] = [*map(quote_unicode, arguments), *multirun_flag(arguments)]
    if "WORLD_SIZE" in os.environ and {"-m", "--multirun", "hydra.mode=MULTIRUN"}.intersection(sys.argv):
        raise UserError("torchrun starts one run; for the runs of a sweep on several devices, use trainer.devices=N")
    job()


def check_arguments(arguments: list[str]) -> None:
    """Raise UserError for an override that Hydra would accept but a run cannot use.

    These are `+key=value` and `~key`, which would pass the check for unknown keys, a required group without an option,
    and a value without a key. Raises UserError or ArgumentError for options that Hydra would answer with its usage.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    for argument in parser.parse_known_args(arguments)[1]:
        if argument.startswith("-"):
            raise UserError(
                f"{argument}: there is no such option; `meanteacher train --help` lists the groups and keys"
            )
        raise UserError(
            f"{argument}: stands behind an option; write options, such as --config-dir DIR, before all keys"
        )
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument.startswith(("+", "~")) and not key.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise UserError(f"{argument}: keys cannot be added or removed; change a value, or write a file in conf/")
        if key in REQUIRED and value.strip() in ("", "null"):
            raise UserError(f"{argument}: a run needs one; choose an option, which `--help` lists")
        if not key:
            raise UserError(f"{argument}: there is no key before the equals sign; write key=value")


def quote_unicode(argument: str) -> str:
    """`key=value` with quotes around a plain value beyond ASCII, such as a path, which Hydra takes in quotes only."""
    key, equals, value = argument.partition("=")
    plain = equals and not value.isascii() and not set(value) & set("'\"[]{}(),=\\")
    return f"{key}='{value}'" if plain else argument


def multirun_flag(arguments: list[str]) -> list[str]:
    """`--multirun` if a sweep is chosen. The sweep's file sets it too late for lists of options on the command line."""
    sweep_chosen = any(argument.startswith("sweep=") and argument != "sweep=none" for argument in arguments)
    mode_chosen = any(argument.startswith(("-", "hydra.mode=")) for argument in arguments)
    return ["--multirun"] if sweep_chosen and not mode_chosen else []

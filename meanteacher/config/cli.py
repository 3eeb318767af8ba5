"""The command `meanteacher`: picks a subcommand and reports its errors in one line."""

import argparse
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from meanteacher.config.checks import nearest
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.config.trust import trust_packages

COMMANDS = {
    "inspect": ("meanteacher.inspection.command", "look at images of your own before training"),
    "train": ("meanteacher.runs.train", "train, resume or sweep: meanteacher train label=1000"),
    "predict": ("meanteacher.inference.command", "predict the classes of images with a finished run"),
    "export": ("meanteacher.inference.export", "write a finished run as ONNX, PyTorch program or safetensors"),
    "demo": ("meanteacher.inference.demo", "try a finished run on a local web page"),
    "label-next": ("meanteacher.labeling.label_next", "choose the unlabeled images to label next, and label them"),
    "audit": ("meanteacher.labeling.audit", "find wrong labels, copies and images of no class"),
    "compare": ("meanteacher.comparison.command", "compare methods from their results"),
    "recipes": ("meanteacher.comparison.recipes", "list the published recipes"),
    "benchmark": ("meanteacher.benchmark.command", "measure the speed of a training step on this machine"),
    "dashboard": ("meanteacher.loggers.dashboard", "make a saved W&B view and a report"),
}
"""Module and summary of each subcommand. The module defines `main(arguments) -> int`."""


def main(arguments: list[str] | None = None) -> int:
    """Run the subcommand that the first argument names; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # in a locale without UTF-8, and for file names that are not text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print("usage: meanteacher COMMAND [ARGUMENTS]\n")
        print("\n".join(f"  {command:<10} {summary}" for command, (_, summary) in COMMANDS.items()))
        print("\n`meanteacher COMMAND --help` tells more. In a checkout, `python run.py …` is `meanteacher train …`.")
        return 0
    if name not in COMMANDS:
        print(f"error: {name}: there is no such command{nearest(name, COMMANDS)}", file=sys.stderr)
        return 1
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # modules of the user's own project, as with `python -m`
    return run_command(lambda: import_module(COMMANDS[name][0]).main(rest if name == "train" else trust_named(rest)))


def trust_named(arguments: list[str]) -> list[str]:
    """Trust the packages of `trusted_packages=[…]`; returns the other arguments. `train` leaves this to Hydra."""
    given = [argument for argument in arguments if argument.startswith("trusted_packages=")]
    for argument in given:
        names = argument.partition("=")[2].strip("[]").split(",")
        trust_packages(name.strip() for name in names)
    return [argument for argument in arguments if argument not in given]


def run_command(command: Callable[[], int]) -> int:
    """The command's exit status; 1 after an error, which is printed in one line, and 130 after Ctrl-C.

    Where the program that reads the output has ended, such as `head`, the status is that of SIGPIPE.
    """
    try:
        status = command()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except (UserError, argparse.ArgumentError, HydraException, OmegaConfBaseException, OSError) as error:
        if isinstance(error, BrokenPipeError) and output_is_closed():
            return 128 + signal.SIGPIPE
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


def output_is_closed() -> bool:
    """Whether nobody reads the standard output any more, which is a pipe; what is still written to it is discarded."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed

"""What the command line does around a run: console output and errors in one line."""

import logging
import re
from contextlib import contextmanager

from meanteacher.config.errors import UserError
from meanteacher.config.schema import nearest

EXTRAS = {"submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray", "optuna": "optuna"}
"""Launchers and sweepers that are installed on request."""


def log_to_console(level: int) -> None:
    """This package's log from `level` on, on standard error, without decoration; files may take more of it.

    A process keeps what is set first: the one that runs a sweep shows the sweep, its workers only errors.
    """
    logger = logging.getLogger("meanteacher")
    logger.setLevel(logging.DEBUG)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.setLevel(level)
        logger.addHandler(handler)


@contextmanager
def only_errors():
    """Let nothing but errors of this package's log through to the console while the context lasts."""
    handlers = [h for h in logging.getLogger("meanteacher").handlers if not isinstance(h, logging.FileHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def refuse_additions(arguments: list[str]) -> None:
    """`+key=value` and `~key` would pass the check for unknown keys; nothing here needs them."""
    for argument in arguments:
        if argument.startswith(("+", "~")) and "hydra" not in argument:
            raise UserError(f"{argument}: keys can't be added or removed; change a value, or write a file in conf/")


def multirun(arguments: list[str]) -> list[str]:
    """`--multirun` where a sweep is chosen: its file says so too, but too late for lists of options on the command line."""
    chosen = any(argument.startswith("sweep=") and argument != "sweep=none" for argument in arguments)
    given = any(argument.startswith(("-", "hydra.mode=")) for argument in arguments)
    return ["--multirun"] if chosen and not given else []


def one_line(error: BaseException) -> str:
    """What is wrong, where, and what to do."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    for cause in causes(error):
        if getattr(cause, "full_key", None) and getattr(cause, "parent_node", None) is not None:
            key, parent = cause.full_key, cause.parent_node
            hint = nearest(key.rpartition(".")[2], [k for k in parent if k != "hydra"])
            return f"{key}: there is no such key{hint}"
    text = " ".join(str(error).split())
    if found := re.search(r"Could not find '(.+)/([^/']+)' Available options in '.+?': (.*?) Config search", text):
        group, option, there = found.groups()
        extra = (
            f"; pip install -e '.[{EXTRAS[option]}]' brings it" if option in EXTRAS else nearest(option, there.split())
        )
        return f"{group}={option}: there is no such option{extra}"
    return text


def causes(error: BaseException | None):
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

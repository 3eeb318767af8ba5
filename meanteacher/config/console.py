"""What a command prints: the package's log on the console, and errors in one line."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from meanteacher.config.checks import nearest
from meanteacher.config.errors import UserError
from meanteacher.config.faults import describe_os_error

EXTRAS = {"submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray", "optuna": "optuna"}
"""The extra that installs each optional launcher or sweeper."""


def log_to_console(level: int) -> None:
    """Print this package's log from `level` on to standard error, without decoration; log files may take more of it.

    The first call of a process decides: the process that runs a sweep shows the sweep, its workers show errors only.
    """
    logger = logging.getLogger("meanteacher")
    logger.setLevel(logging.DEBUG)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.setLevel(level)
        logger.addHandler(handler)


@contextmanager
def only_errors() -> Iterator[None]:
    """Within the context, print only errors of this package's log to the console."""
    handlers = [h for h in logging.getLogger("meanteacher").handlers if not isinstance(h, logging.FileHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def one_line(error: BaseException) -> str:
    """The error in one line: what is wrong, where, and what to do."""
    chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OSError) and (text := describe_os_error(cause)):
            return text
    for cause in chain:
        if text := describe_key(cause):
            return text
    text = " ".join(str(error).split())
    if match := re.search(r"Could not load '(.+)/([^/']+)'", text):
        return f"{match[1]}={match[2]}: there is no such option"
    pattern = r"Could not find '(.+)/([^/']+)' Available options in '.+?': (.*?) Config search"
    if match := re.search(pattern, text):
        group, option, available = match.groups()
        if option in EXTRAS:
            return f"{group}={option}: there is no such option; pip install -e '.[{EXTRAS[option]}]' brings it"
        return f"{group}={option}: there is no such option{nearest(option, available.split())}"
    return text


def describe_key(error: BaseException) -> str | None:
    """One line for an error of OmegaConf about a key, with a hint if there is no such key; None for other errors."""
    key, parent = getattr(error, "full_key", None), getattr(error, "parent_node", None)
    if not key or parent is None:
        return None
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return f"{key}: there is no such key{nearest(key.rpartition('.')[2], [k for k in parent if k != 'hydra'])}"
    return f"{key}: {str(error).splitlines()[0]}"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and the errors that it was raised from, each once: the chain may lead back to an earlier error."""
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        yield error
        visited.add(id(error))
        error = error.__cause__ or error.__context__

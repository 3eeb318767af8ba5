"""What the command line does around a run: console output and errors in one line."""

import logging
import re
from pathlib import Path

from meanteacher.config import nearest
from meanteacher.errors import UserError

CONF = Path(__file__).parents[1] / "conf"


def log_to_console() -> None:
    """This package's log on standard error, without decoration."""
    logger = logging.getLogger("meanteacher")
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler()]
    logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))


def refuse_additions(arguments: list[str]) -> None:
    """`+key=value` and `~key` would pass the check for unknown keys; nothing here needs them."""
    for argument in arguments:
        if argument.startswith(("+", "~")) and "hydra" not in argument:
            raise UserError(f"{argument}: keys can't be added or removed; change a value, or write a file in conf/")


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
    if found := re.search(r"'(\w+)/([^']+)'", text):
        group, option = found.groups()
        if (CONF / group).is_dir():
            return f"{group}={option}: there is no such option{nearest(option, [p.stem for p in (CONF / group).glob('*.yaml')])}"
    return text


def causes(error: BaseException | None):
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

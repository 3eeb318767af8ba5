"""The lock of a run directory. Its process holds it until it ends in whatever way, also when it is killed."""

import fcntl
import os
from pathlib import Path

from meanteacher.config.errors import UserError


class RunningElsewhere(UserError):
    """Another process trains the run."""


def lock_path(folder: Path) -> Path:
    """The file that a run locks. It lies beside the run directory and stays there."""
    return Path(f"{os.path.abspath(folder)}.lock")


def is_held(folder: Path) -> bool | None:
    """Whether a process trains in a run directory; None if this is not known, as for a copy without its lock file."""
    try:
        with lock_path(folder).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False

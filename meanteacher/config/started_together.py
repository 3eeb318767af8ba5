"""Errors of processes that torchrun or srun has started together: the main one tells them, the others leave it time."""

import json
import os
import time
from contextlib import suppress

from meanteacher.config.console import one_line
from meanteacher.config.errors import LostProcess

GRACE_SECONDS = 10
"""The time that the main process has to tell an error that all processes have, before the end of another ends it."""


def rank() -> int:
    """The rank of this process among those that were started together; 0 for the main process and for a single one."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def leave_to_main_process(error: Exception) -> None:
    """Leave an error that ends this process for the report of torchrun, and let the main process tell it first.

    torchrun and srun end all processes as soon as one has failed. So only a process that is alone with its error is
    still there after `GRACE_SECONDS`, and prints it.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        text = one_line(error)
        information = {"py_callstack": text, "timestamp": str(int(time.time()))}
        with suppress(OSError), open(path, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": text, "extraInfo": information}}, file)
    if rank() and not isinstance(error, LostProcess):
        time.sleep(GRACE_SECONDS)

"""The directory that holds everything of a run: one run per directory, one process at a time, nothing deleted."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from meanteacher.config.errors import UserError
from meanteacher.runs.result import Result
from meanteacher.runs.run_lock import RunningElsewhere, lock_path
from meanteacher.training.checkpoint import CURRENT, PREVIOUS

log = logging.getLogger(__name__)

FILES = ("result.json", "split.json", "run.log", CURRENT, PREVIOUS)
"""A directory with any of these files holds a run."""

FIRST_FILES = ("config.yaml", "result.json", "run.log", "split.json")
"""What is written before the first step."""

PATIENCE_SECONDS = 0.2
"""Longer than `is_held` holds the lock in order to look at it, so that no comparison keeps a run from starting."""


class FollowedRunDir(NamedTuple):
    """The run directory in a process that is not the run's main one, which reads files there but writes none."""

    path: Path
    digest: str


class RunDir:
    """`with RunDir(...)` holds the directory's lock. `fresh` first renames an existing one to `<name>.old-k`.

    attempt: the number of earlier runs that were set aside. wait: wait for another process that holds the lock.
    refused: to be set where the run cannot begin; nothing of a new run remains then, and one set aside is put back.
    Raises RunningElsewhere if another process runs there, and UserError if the directory holds another run, or if it
    cannot be written.
    """

    def __init__(self, path: Path, digest: str, fresh: bool, wait: bool = False):
        self.path, self.digest, self.refused = path, digest, False
        self.aside: Path | None = None
        try:
            self.locked_first = not lock_path(path).exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(lock_path(path), timeout=-1 if wait else PATIENCE_SECONDS)
            self.lock.acquire()
        except Timeout:
            raise RunningElsewhere(
                f"{path}: another process is running this; wait for it, or change seed or output"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another output=") from None
        try:
            self.prepare(fresh)
            self.new = not self.holds_run()
        except BaseException:
            self.leave()
            raise

    def prepare(self, fresh: bool) -> None:
        """Create the directory, and with `fresh` set the one aside that is there."""
        path = self.path
        if fresh and self.holds_run():
            self.set_aside()
        path.mkdir(exist_ok=True)
        self.attempt = len(list(path.parent.glob(f"{path.name}.old-*")))
        self.check()

    def set_aside(self) -> None:
        """Rename the directory to the first free `<name>.old-k`."""
        k = 1
        while (old := self.path.with_name(f"{self.path.name}.old-{k}")).exists():
            k += 1
        os.replace(self.path, old)
        self.aside = old
        log.info("the earlier run is kept in %s", old)

    def check(self) -> None:
        """Raise UserError if the directory holds another run, or something else whose files a run would replace."""
        if (self.path / "config.yaml").exists() and not self.holds_run():
            raise UserError(f"{self.path}: holds a config.yaml that is not of a run; choose another folder")
        result = self.result()
        if result and result.digest != self.digest:
            raise UserError(f"{self.path}: holds another run ({result.digest}); choose another folder, or fresh=true")

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *details) -> None:
        self.leave()

    def leave(self) -> None:
        """Release the lock. Where there is no run, first remove what was written, an empty directory and a new lock."""
        if self.refused and self.new:
            for name in FIRST_FILES:
                (self.path / name).unlink(missing_ok=True)
            if self.aside:
                self.path.rmdir()
                os.replace(self.aside, self.path)
        if not self.holds_run():
            with suppress(OSError):  # it is not empty
                self.path.rmdir()
            if self.locked_first:
                lock_path(self.path).unlink(missing_ok=True)
        self.lock.release()

    def holds_run(self) -> bool:
        return any((self.path / name).exists() for name in FILES)

    def result(self) -> Result | None:
        """The content of result.json, None if there is none. Raises UserError if it is not valid."""
        path = self.path / "result.json"
        try:
            return Result.read(path) if path.exists() else None
        except UserError as error:
            reason = str(error).partition("; ")[0]
            raise UserError(
                f"{reason}; delete it to go on from the checkpoint, or use fresh=true to begin again"
            ) from None

    def write_result(self, result: Result) -> None:
        """Write result.json atomically."""
        result.write(self.path / "result.json")

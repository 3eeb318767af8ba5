"""Trains, resumes or reports one run in its run directory."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from meanteacher.config.console import only_errors
from meanteacher.config.errors import UserError, first_line
from meanteacher.config.faults import explain
from meanteacher.config.files import write_atomically
from meanteacher.config.settings import Choices, Settings
from meanteacher.runs import report
from meanteacher.runs.result import Result
from meanteacher.runs.run_dir import FollowedRunDir, RunDir
from meanteacher.runs.run_files import missing_files, restore_files, write_files
from meanteacher.runs.session import Session
from meanteacher.runs.source import source_digest
from meanteacher.training.ranks import ALONE, Ranks
from meanteacher.training.signals import raise_on_termination

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    choices: Choices,
    path: Path,
    command: str,
    show_progress: bool = True,
    wait: bool = False,
    ranks: Ranks = ALONE,
) -> Result:
    """Train or resume the run that `settings` describe in the directory `path`, or report it if it is finished.

    choices: the options that the settings came from; command: what repeats this run; show_progress: show a progress
    bar, and write the files that a finished run lacks; wait: wait while another process trains the same run; ranks: the
    processes of the run, of which this is the main one; the others call `follow`.
    Raises RunningElsewhere without waiting, and UserError for bad input; result.json then says `failed`, and the
    directory keeps everything computed so far. Nothing remains of a new run that is refused before its first step,
    unless it belongs to a sweep, whose comparison gives the reason.
    """
    with (
        RunDir(path, settings.digest, settings.fresh, wait=wait) as run_dir,
        log_file(path / "run.log"),
        raise_on_termination(),
    ):
        previous = run_dir.result()
        finished = previous is not None and previous.status == "finished"
        ranks.broadcast(finished)
        if finished:
            if show_progress and missing_files(path):
                add_missing_files(settings, choices, run_dir, previous)
            return report_finished(previous, run_dir)
        begun = start(settings, choices, command, path, previous)
        result = train(settings, choices, run_dir, begun, show_progress, ranks)
        finished = result.status == "finished"
        log.info("%s", report.text(result, path) if finished else f"stopped; rerun the command to resume: {command}")
        return result


def follow(settings: Settings, choices: Choices, path: Path, ranks: Ranks) -> None:
    """Train as a process of a run that is not its main one, together with that one. Writes no files.

    Raises UserError for bad input, and LostProcess if the main process ends.
    """
    with raise_on_termination():
        finished = ranks.broadcast(None)
        if not finished:
            Session(settings, choices, FollowedRunDir(path, settings.digest), False, ranks).fit()


def train(
    settings: Settings, choices: Choices, run_dir: RunDir, result: Result, show_progress: bool, ranks: Ranks
) -> Result:
    """Train the run that `result` begins, and write its files. Returns the result with what was measured."""
    began, path = time.time() - result.wall_seconds, run_dir.path
    session, pictures = None, {}
    try:
        run_dir.write_result(result)
        write_atomically(path / "config.yaml", yaml.safe_dump(settings.as_dict(), sort_keys=False))
        with ranks.detect_lost_process():
            session = Session(settings, choices, run_dir, show_progress, ranks)
            measured = result.replace(**session.fit())
        if measured.status == "finished":  # result.json is written last, so that a run stopped here is completed later
            pictures = write_files(session, measured)
        result = measured.replace(wall_seconds=time.time() - began)
        run_dir.write_result(result)
    except BaseException as raised:
        error = explain(raised, path)
        progress = {"steps": session.trainer.step} if session is not None else {}
        result = result.replace(**failure(error), **progress, wall_seconds=time.time() - began)
        log.debug("the run %s", result.status, exc_info=raised)
        run_dir.refused = show_progress and session is None and isinstance(error, UserError)
        save_result(run_dir, result, error)
        if error is raised:
            raise
        raise error from raised
    finally:
        if session is not None:
            session.close(result.status, pictures, result.model_dump(exclude_unset=True, exclude={"by_class"}))
    return result


def save_result(run_dir: RunDir, result: Result, ended_by: BaseException) -> None:
    """Write result.json, or warn if that is not possible: the error that ended the run matters more."""
    try:
        run_dir.write_result(result)
    except OSError as error:
        level = logging.DEBUG if "cannot be written" in str(ended_by) else logging.WARNING
        log.log(level, "%s/result.json cannot be written (%s)", run_dir.path, error.strerror)


def add_missing_files(settings: Settings, choices: Choices, run_dir: RunDir, result: Result) -> None:
    """Write the files that this finished run lacks, or warn of those that cannot be written.

    They were removed, or an earlier version did not write them.
    """
    missing, reason = missing_files(run_dir.path), None
    try:
        with only_errors():
            session = Session(settings, choices, run_dir, show_progress=False)
        restore_files(session, result, missing)
    except (UserError, OSError, RuntimeError, KeyError) as error:  # of other code: names and shapes differ
        reason = first_line(error)
    still_missing = missing_files(run_dir.path)
    if reason is not None:
        log.warning("%s cannot be added to this run (%s); fresh=true repeats the run", ", ".join(still_missing), reason)
    if added := [name for name in missing if name not in still_missing]:
        log.info("added %s", ", ".join(added))


def start(settings: Settings, choices: Choices, command: str, path: Path, previous: Result | None) -> Result:
    """The result of a run that begins in the directory `path`, or begins again after `previous`."""
    return Result(
        status="running",
        digest=settings.digest,
        command=command,
        started_in=os.path.relpath(os.path.realpath(os.getcwd()), os.path.realpath(path)),
        choices=choices.model_dump(),
        source=source_digest(settings.as_dict()),
        settings=settings.as_dict(),
        label=settings.label,
        seed=settings.seed,
        split_seed=settings.split_seed,
        attempts=(previous.attempts if previous else 0) + 1,
        wall_seconds=previous.wall_seconds if previous else 0.0,
    )


def failure(error: BaseException) -> dict:
    """Status and reason of a run that an exception ended."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = str(error) if isinstance(error, UserError) else repr(error)
    return {"status": "interrupted" if interrupted else "failed", "reason": reason}


def report_finished(result: Result, run_dir: RunDir) -> Result:
    """Log the result of a finished run instead of repeating it."""
    log.info("this run is finished; fresh=true repeats it")
    if result.source != source_digest(result.settings):
        log.warning("it was made with other source code (commit %s)", result.commit)
    log.info("%s", report.text(result, run_dir.path))
    return result


class QuietFileHandler(logging.FileHandler):
    """Writes a log file as long as possible. By default, logging prints a traceback for each line that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out; the console has it too."""


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Within the context, write everything that this package logs to `path` as well."""
    handler = QuietFileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("meanteacher")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):  # what is left in its buffer
            handler.close()

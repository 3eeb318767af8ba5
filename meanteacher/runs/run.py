"""From a plain configuration to a finished run folder."""

import logging
import time
from contextlib import contextmanager
from pathlib import Path

import yaml

from meanteacher.config import schema
from meanteacher.config.errors import UserError
from meanteacher.runs import report
from meanteacher.runs.run_dir import RunDir, source_digest
from meanteacher.runs.session import Session

log = logging.getLogger(__name__)


def run(settings: dict, names: dict, path: Path, command: str, alone: bool = True) -> dict:
    """Train, resume or report the run that `settings` describe, in the folder `path`; returns result.json's content.

    settings: the composed configuration as plain builtins; names: which option of each config group it came from,
    and under `sweep` the multirun it belongs to, if any; alone: show the progress, and refuse to start where another
    process trains the same run. A job of a sweep is quiet, and waits for that process.
    Raises UserError for bad input, after which result.json says `failed` and the folder holds all that was computed.
    """
    opened = RunDir(path, schema.digest(settings), settings["fresh"], wait=not alone)
    with opened as folder, log_file(folder.path / "run.log"):
        there = folder.result()
        if there and there["status"] == "finished":
            return reported(there, folder)
        result = {
            "status": "running",
            "digest": folder.digest,
            "command": command,
            "names": names,
            "source": source_digest(),
            "settings": settings,
            **{key: settings[key] for key in ("label", "seed", "split_seed")},
            "attempts": (there["attempts"] if there else 0) + 1,
            "wall_seconds": there["wall_seconds"] if there else 0.0,
        }
        began = time.time() - result["wall_seconds"]
        try:
            folder.write_result(result)
            (folder.path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
            session = Session(settings, names, folder, alone)
            result |= session.fit()
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else repr(error)
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            log.debug("the run %s", status, exc_info=error)
            folder.write_result(result | {"status": status, "reason": reason, "wall_seconds": time.time() - began})
            raise
        result["wall_seconds"] = time.time() - began
        folder.write_result(result)
        session.close(result)
        done = result["status"] == "finished"
        log.info("%s", report.text(result, folder.path) if done else f"stopped; the same command goes on: {command}")
        return result


def reported(result: dict, folder: RunDir) -> dict:
    """Say what a finished run gave, instead of repeating it."""
    log.info("this run is finished; fresh=true repeats it")
    if result["source"] != source_digest():
        log.warning("it was made with other source code of this package (commit %s)", result["commit"])
    log.info("%s", report.text(result, folder.path))
    return result


@contextmanager
def log_file(path: Path):
    """Everything this package logs also goes to `path` while the context lasts."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("meanteacher")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()

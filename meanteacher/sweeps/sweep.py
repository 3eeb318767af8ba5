"""The runs of a sweep, their state, and their comparison."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.settings import Choices, Node, Settings
from meanteacher.loggers import RunInfo
from meanteacher.runs.result import Result

if TYPE_CHECKING:
    from meanteacher.comparison.command import Comparison

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep: its overrides, its run folder, its settings, and the options that these came from."""

    overrides: list[str]
    folder: Path
    settings: Settings
    choices: Choices

    def read_result(self) -> Result | None:
        """The content of result.json; None if it does not exist or cannot be read."""
        try:
            return Result.read(self.folder / "result.json")
        except UserError:
            return None


class Sweep:
    """The jobs of one sweep, one per run folder. The same jobs always make the same sweep, in the same folder.

    name: the option of the config group `sweep`. command: the command that repeats the sweep. output: the folder that
    holds the run folders. finished: the results of the jobs that were finished before the sweep, by run folder.
    missing: all other jobs, and with `fresh=true` every job.
    """

    def __init__(self, *, name: str, command: str, output: Path, jobs: list[Job]):
        self.name, self.command, self.output = name, command, output
        self.jobs = list({job.folder: job for job in jobs}.values())
        results = {job.folder: job.read_result() for job in self.jobs if not job.settings.fresh}
        self.finished = {folder: result for folder, result in results.items() if is_finished(result)}
        self.missing = [job for job in self.jobs if job.folder not in self.finished]

    @cached_property
    def id(self) -> str:
        """The name and six hexadecimal digits that identify the jobs. It is also the W&B group of the runs."""
        folders = "\n".join(sorted(str(job.folder.relative_to(self.output)) for job in self.jobs))
        return f"{self.name}-{hashlib.blake2b(folders.encode(), digest_size=3).hexdigest()}"

    @property
    def folder(self) -> Path:
        """The folder of sweep.json and of the comparison."""
        return self.output / "sweeps" / self.id

    def write(self) -> None:
        """Write sweep.json, which lists the runs for `meanteacher compare`."""
        runs = [{"folder": os.path.relpath(job.folder, self.folder), "overrides": job.overrides} for job in self.jobs]
        write_sweep(self.folder, {"name": self.name, "command": self.command, "runs": runs})

    def description(self) -> str:
        """For example, `18 runs (seed 0,1,2 · label 20,40,80 · method supervised,mean_teacher), 3 of them finished`."""
        values_by_key: dict[str, list[str]] = {}
        for job in self.jobs:
            for override in job.overrides:
                key, _, value = override.partition("=")
                values = values_by_key.setdefault(key, [])
                if value not in values:
                    values.append(value)
        varied = " · ".join(f"{key} {','.join(values)}" for key, values in values_by_key.items() if len(values) > 1)
        finished = f", {len(self.finished)} of them finished" if self.finished else ""
        return f"{len(self.jobs)} runs{f' ({varied})' if varied else ''}{finished}"

    def unfinished(self) -> list[Job]:
        """The jobs that are not finished now."""
        return [job for job in self.jobs if not is_finished(job.read_result())]

    def compare(self) -> None:
        """Write the comparison into the sweep's folder, record it in W&B like the runs, and log it last."""
        from meanteacher.comparison.command import compare

        comparison = compare([self.folder], self.folder)
        node = next((job.settings.logger["wandb"] for job in self.jobs if "wandb" in job.settings.logger), None)
        if node:
            self.log_to_wandb(node, comparison)
        log_comparison(comparison)

    def log_to_wandb(self, node: Node, comparison: "Comparison") -> None:
        """Record the comparison as a run of the sweep's W&B group. A failure is logged as a warning.

        node: the configuration of the logger.
        """
        from meanteacher.runs.build import build

        logger = build(node)
        try:
            logger.start(self.run_info())
            try:
                logger.log_table("comparison/table", list(comparison.summary), comparison.summary.values.tolist())
                if problems := comparison.problems:
                    rows = [[str(value) for value in problem.values()] for problem in problems]
                    logger.log_table("comparison/problems", list(problems[0]), rows)
                logger.log_pictures({"comparison/errors": comparison.files["comparison.png"]})
            finally:
                status = "failed" if self.unfinished() else "finished"
                logger.finish(status, {"verdicts": comparison.verdicts})
        except Exception as error:
            log.warning("the comparison could not be recorded in W&B: %s", error)

    def run_info(self) -> RunInfo:
        """The W&B run that holds the comparison."""
        choices = {key: sorted({str(getattr(job.choices, key)) for job in self.jobs}) for key in ("dataset", "method")}
        return RunInfo(
            folder=self.folder,
            id=f"{self.id}-comparison",
            config={"command": self.command, "runs": len(self.jobs), **choices},
            group=self.id,
            name=f"{self.name} comparison",
            tags=["comparison", *choices["dataset"], *choices["method"]],
            steps=0,
            start_step=0,
            kind="comparison",
        )


def write_sweep(folder: Path, content: dict) -> None:
    """Write the sweep.json of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "sweep.json", json.dumps(content, indent=1) + "\n")


def is_finished(result: Result | None) -> bool:
    return result is not None and result.status == "finished"


def is_failed(result: Result | None) -> bool:
    return result is not None and result.status == "failed"


def log_comparison(comparison: "Comparison") -> None:
    """Log the tables of errors, the verdicts, and the paths of the files; the picture's path comes last."""
    verdicts = "\n".join(comparison.verdicts)
    page = f"comparison: {comparison.files['comparison.html']} (and .md, .csv, .json, .svg)"
    picture = f"picture:    {comparison.files['comparison.png']}"
    log.info("\n%s", "\n\n".join(filter(None, [comparison.errors, verdicts, f"{page}\n{picture}"])))

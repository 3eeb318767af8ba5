"""The runs of a sweep: where they lie, how far they are, and their comparison."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.settings import Choices, Settings
from meanteacher.loggers import RunInfo
from meanteacher.runs.result import Result

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: its overrides, its folder, its settings, and the options that they came from."""

    overrides: list[str]
    folder: Path
    settings: Settings
    choices: Choices

    def result(self) -> Result | None:
        """The content of result.json, or None if there is none that can be read."""
        try:
            return Result.read(self.folder / "result.json")
        except UserError:
            return None

    def status(self) -> str | None:
        result = self.result()
        return result.status if result else None

    def finished(self) -> bool:
        return not self.settings.fresh and self.status() == "finished"


class Sweep:
    """name: the sweep file's; jobs: one for each run folder. The same jobs are the same sweep, in the same folder."""

    def __init__(self, name: str, command: str, output: Path, jobs: list[Job]):
        self.name, self.command, self.output = name, command, output
        self.jobs = list({job.folder: job for job in jobs}.values())
        self.missing = [job for job in self.jobs if not job.finished()]

    @cached_property
    def id(self) -> str:
        """The name and 6 hexadecimal digits over the jobs: the W&B group of its runs."""
        folders = "\n".join(sorted(str(job.folder.relative_to(self.output)) for job in self.jobs))
        return f"{self.name}-{hashlib.blake2b(folders.encode(), digest_size=3).hexdigest()}"

    @property
    def folder(self) -> Path:
        return self.output / "sweeps" / self.id

    def write(self) -> None:
        """sweep.json: the command and the runs, from which `python -m meanteacher.comparison.command` reads them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        runs = [{"folder": os.path.relpath(job.folder, self.folder), "overrides": job.overrides} for job in self.jobs]
        content = {"name": self.name, "command": self.command, "runs": runs}
        write_atomically(self.folder / "sweep.json", json.dumps(content, indent=1) + "\n")

    def description(self) -> str:
        """`18 runs (seed 0,1,2 · label 20,40,80 · method supervised,mean_teacher), 3 of them finished`."""
        values: dict[str, list[str]] = {}
        for job in self.jobs:
            for override in job.overrides:
                key, _, value = override.partition("=")
                values.setdefault(key, [])
                if value not in values[key]:
                    values[key].append(value)
        varied = " · ".join(f"{key} {','.join(found)}" for key, found in values.items() if len(found) > 1)
        done = len(self.jobs) - len(self.missing)
        finished = f", {done} of them finished" if done else ""
        return f"{len(self.jobs)} runs{f' ({varied})' if varied else ''}{finished}"

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if job.status() != "finished"]

    def compare(self) -> None:
        """Write the comparison into the sweep's folder, say it, and log it as a run of the sweep's W&B group."""
        from meanteacher.comparison.command import compare

        comparison = compare([self.folder], self.folder)
        log_comparison(comparison)
        node = next((job.settings.logger["wandb"] for job in self.jobs if "wandb" in job.settings.logger), None)
        if node:
            self.log_to_wandb(node, comparison)

    def log_to_wandb(self, node: dict, comparison) -> None:
        from meanteacher.runs.build import build

        logger = build(node)
        names = {key: sorted({str(getattr(job.choices, key)) for job in self.jobs}) for key in ("dataset", "method")}
        info = RunInfo(
            folder=self.folder,
            id=f"{self.id}-comparison",
            config={"command": self.command, "runs": len(self.jobs), **names},
            group=self.id,
            name=f"{self.name} comparison",
            tags=["comparison", *names["dataset"], *names["method"]],
            steps=0,
            start_step=0,
            kind="comparison",
        )
        logger.start(info)
        logger.table("comparison/table", list(comparison.summary), comparison.summary.values.tolist())
        if problems := comparison.problems:
            logger.table("comparison/problems", list(problems[0]), [list(map(str, one.values())) for one in problems])
        logger.pictures({"comparison/errors": comparison.files["comparison.png"]})
        logger.finish("failed" if self.unfinished() else "finished", {"verdicts": comparison.verdicts})


def log_comparison(comparison) -> None:
    """Log the verdicts, the tables of errors, and where the files are."""
    files = f"comparison: {comparison.files['comparison.html']} (and .md, .csv, .json, .png, .svg)"
    log.info("\n%s\n\n%s", comparison.text, files)

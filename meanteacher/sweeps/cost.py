"""What a sweep will cost: from finished runs of the same kind, else from a few timed steps on this machine."""

import json
import logging
import statistics
import tempfile
from pathlib import Path

from meanteacher.config.console import only_errors
from meanteacher.config.digest import WATCHING, normalize
from meanteacher.config.errors import UserError
from meanteacher.config.formats import format_duration
from meanteacher.sweeps.sweep import Job, Sweep

log = logging.getLogger(__name__)

LONG_HOURS = 2


def kind(job: Job) -> str:
    """What runs of equal cost have in common: all but the labels and seeds."""
    varied = WATCHING | {"label", "seed", "split_seed"}
    return json.dumps(normalize({k: v for k, v in job.settings.as_dict().items() if k not in varied}), sort_keys=True)


def seconds_by_kind(sweep: Sweep) -> dict[str, float]:
    """Seconds a run of each kind takes. Raises the first UserError where no kind can be timed; others are said."""
    found: dict[str, float] = {}
    errors: list[UserError] = []
    kinds: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        kinds.setdefault(kind(job), []).append(job)
    for name, alike in kinds.items():
        missing = [job for job in alike if job in sweep.missing]
        if not missing:
            continue
        finished = [job.result().wall_seconds for job in alike if job not in missing]
        try:
            found[name] = statistics.median(finished) if finished else first_probe(missing)
        except UserError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    for error in errors:
        log.warning("cost    not known for some runs: %s", error)
    return found


def first_probe(jobs: list[Job]) -> float:
    """`probe` of the first that can run, one tried for each number of labels, until two fail for the same reason."""
    said: list[str] = []
    for job in {job.settings.label: job for job in jobs}.values():
        try:
            return probe(job)
        except UserError as error:
            if str(error) in said:
                raise
            said.append(str(error))
    raise UserError(said[0])


def probe(job: Job) -> float:
    """Seconds the job would take here, from its first steps, which leave nothing behind and hold no GPU."""
    from meanteacher.runs.run_dir import RunDir
    from meanteacher.runs.session import Session

    trainer = job.settings.trainer.model_dump()
    if trainer["device"] == "free":
        trainer["device"] = "auto"
    settings = job.settings.replace({"logger": {}, "trainer": trainer})
    with tempfile.TemporaryDirectory() as folder, only_errors():
        kept = RunDir(Path(folder) / "probe", "probe", fresh=False)
        with kept:
            return Session(settings, job.choices, kept, show_progress=False).trainer.estimate_seconds()


def estimate(sweep: Sweep) -> dict[Path, float]:
    """Seconds for each job of the sweep that is to do; says the sum, and what is smaller where that is long."""
    from meanteacher.runs.report import cpu_name

    seconds = seconds_by_kind(sweep)
    usual = statistics.mean(seconds.values()) if seconds else 0.0
    jobs = {job.folder: seconds.get(kind(job), usual) for job in sweep.missing}
    hours = sum(jobs.values()) / 3600
    if jobs:
        log.info(
            "cost    about %s, one run after another, as measured on this machine (%s)",
            format_duration(3600 * hours),
            cpu_name(),
        )
    if hours > LONG_HOURS:
        log.warning(
            "        that is long: sweep=digits takes minutes; or less of this one, as with seed=0 label=1000,4000 "
            "steps=%d model=wrn_10_1",
            max(1, sweep.jobs[0].settings.steps // 10),
        )  # fmt: skip
    return jobs

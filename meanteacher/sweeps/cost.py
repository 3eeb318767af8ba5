"""Estimates the duration of a sweep from finished runs of the same cost or, without any, from a few timed steps."""

import json
import logging
import statistics
import tempfile
from pathlib import Path

from meanteacher.config.added_keys import SCENARIO
from meanteacher.config.console import only_errors
from meanteacher.config.digest import WATCHING, normalize
from meanteacher.config.errors import UserError
from meanteacher.config.formats import format_duration
from meanteacher.sweeps.sweep import Job, Sweep

log = logging.getLogger(__name__)

LONG_HOURS = 2
"""A warning suggests a smaller sweep for anything longer."""

FREE_OF_COST = WATCHING | {"label", "seed", "split_seed", *SCENARIO}
"""Settings that do not change how long a run takes."""


def estimate_seconds(sweep: Sweep) -> dict[Path, float]:
    """The estimated seconds of each missing job, by run folder. Logs their sum, with advice if that is long.

    A job that cannot be timed counts with the mean of the others. Raises UserError if no job can be timed.
    """
    from meanteacher.runs.report import cpu_name

    if not sweep.missing:
        return {}
    seconds_by_key = seconds_by_cost_key(sweep)
    mean = statistics.mean(seconds_by_key.values())
    seconds = {job.folder: seconds_by_key.get(cost_key(job), mean) for job in sweep.missing}
    total = sum(seconds.values())
    log.info("cost    about %s if run one after another on this machine (%s)", format_duration(total), cpu_name())
    if total > LONG_HOURS * 3600:
        log.warning(
            "        for a shorter sweep, use sweep=digits, which takes minutes, or fewer and smaller runs, as with "
            "seed=0 label=1000,4000 steps=%d model=wrn_10_1",
            max(1, sweep.jobs[0].settings.steps // 10),
        )
    return seconds


def cost_key(job: Job) -> str:
    """A text that is equal for jobs that take equally long: those that differ only in labels, image sets and seeds."""
    relevant = {key: value for key, value in job.settings.as_dict().items() if key not in FREE_OF_COST}
    return json.dumps(normalize(relevant), sort_keys=True)


def seconds_by_cost_key(sweep: Sweep) -> dict[str, float]:
    """The estimated seconds of one run, by `cost_key`, for the missing jobs.

    Logs a warning for jobs that cannot be timed. Raises the first UserError if none can be.
    """
    jobs_by_key: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        jobs_by_key.setdefault(cost_key(job), []).append(job)
    seconds: dict[str, float] = {}
    errors: list[UserError] = []
    for key, jobs in jobs_by_key.items():
        finished = [sweep.finished[job.folder].wall_seconds for job in jobs if job.folder in sweep.finished]
        missing = [job for job in jobs if job.folder not in sweep.finished]
        if not missing:
            continue
        try:
            seconds[key] = statistics.median(finished) if finished else time_any(missing)
        except UserError as error:
            errors.append(error)
    if errors and not seconds:
        raise errors[0]
    for error in errors:
        log.warning("cost    unknown for some runs: %s", error)
    return seconds


def time_any(jobs: list[Job]) -> float:
    """Time the first job that can run, trying one per choice of image sets.

    Raises UserError if two fail for the same reason.
    """
    reasons: list[str] = []
    for job in {(job.settings.label, *job.settings.scenario.items()): job for job in jobs}.values():
        try:
            return time_first_steps(job)
        except UserError as error:
            if str(error) in reasons:
                raise
            reasons.append(str(error))
    raise UserError(reasons[0])


def time_first_steps(job: Job) -> float:
    """Estimate the seconds of a job from its first steps on this machine, which leave no files behind.

    Raises UserError if the job cannot run.
    """
    from meanteacher.runs.run_dir import RunDir
    from meanteacher.runs.session import Session

    trainer = job.settings.trainer.model_dump()
    if trainer["device"] == "free":
        trainer["device"] = "auto"  # "free" would reserve a GPU for the lifetime of this process
    settings = job.settings.replace({"logger": {}, "trainer": trainer})
    with tempfile.TemporaryDirectory() as folder, only_errors():
        run_dir = RunDir(Path(folder) / "probe", "probe", fresh=False)
        with run_dir:
            return Session(settings, job.choices, run_dir, show_progress=False).trainer.estimate_seconds()

"""Patches of submitit, so that one lost job does not end the wait for the others, and Slurm needs no accounting.

Written against submitit 1.5.4. The parts that are replaced, `Job.results` and `SlurmJob.watcher`, and those that the
replacement uses, are private; tests/sweeps/test_submitit_patches.py fails if one of them changes.
"""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from meanteacher.config.console import one_line

log = logging.getLogger(__name__)

SECONDS_BETWEEN_QUERIES = 60
"""The longest time between two calls of squeue."""


@contextmanager
def applied() -> Iterator[None]:
    """Within the context, submitit logs the error of a killed job and returns None for it, instead of raising the error
    and leaving the other jobs behind. Where `sacct` does not work, it asks `squeue` for the state of the jobs."""
    from submitit.core.core import Job
    from submitit.slurm.slurm import SlurmJob

    results, watcher = Job.results, SlurmJob.watcher

    def results_or_none(job: Job) -> list:
        try:
            return results(job)
        except Exception as error:
            log.error("error: %s", one_line(error))
            return [None]

    Job.results = results_or_none
    if not has_accounting():
        SlurmJob.watcher = squeue_watcher()
    try:
        yield
    finally:
        Job.results, SlurmJob.watcher = results, watcher


def has_accounting() -> bool:
    """Whether `sacct`, from which submitit reads the state of a job, works here."""
    try:
        return subprocess.run(["sacct", "--noheader"], capture_output=True).returncode == 0
    except OSError:
        return False


def squeue_watcher():
    """A watcher that reads the states of jobs from `squeue`. A job that is not listed there has ended."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class SqueueWatcher(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            return ["squeue", "--noheader", "--array", "--format=%i|%T"] if self._registered - self._finished else None

        def read_info(self, string: bytes) -> dict[str, dict[str, str]]:
            states = dict(line.split("|") for line in string.decode().split())
            return {job: {"State": states.get(job, "ENDED")} for job in self._registered - self._finished}

    return SqueueWatcher(delay_s=SECONDS_BETWEEN_QUERIES)

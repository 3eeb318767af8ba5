"""submitit's launchers, so that one lost job does not end the wait for the others, also where Slurm keeps no accounts."""

import logging
import subprocess
from contextlib import contextmanager

from meanteacher.config.console import one_line

log = logging.getLogger(__name__)


@contextmanager
def each_for_itself():
    """A job that was killed is said and gives None, where submitit would raise and forget the jobs that go on."""
    from submitit.core.core import Job
    from submitit.slurm.slurm import SlurmJob

    results, watcher = Job.results, SlurmJob.watcher

    def said(job) -> list:
        try:
            return results(job)
        except Exception as error:
            log.error("error: %s", one_line(error))
            return [None]

    Job.results = said
    if not keeps_accounts():
        SlurmJob.watcher = queue()
    try:
        yield
    finally:
        Job.results, SlurmJob.watcher = results, watcher


def keeps_accounts() -> bool:
    """Whether `sacct`, which submitit asks how a job is, can tell."""
    try:
        return subprocess.run(["sacct", "--noheader"], capture_output=True).returncode == 0
    except OSError:
        return False


def queue():
    """A watcher that asks `squeue` instead: a job that is not listed there has ended."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Queue(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            return ["squeue", "--noheader", "--array", "--format=%i|%T"] if self._registered - self._finished else None

        def read_info(self, string: bytes) -> dict[str, dict[str, str]]:
            listed = dict(line.split("|") for line in string.decode().split())
            return {job: {"State": listed.get(job, "ENDED")} for job in self._registered - self._finished}

    return Queue(delay_s=60)

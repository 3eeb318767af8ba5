"""The progress of a whole sweep, read from the run folders, so that it works with every launcher."""

import json
import logging
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from meanteacher.comparison.identity import deployed_networks
from meanteacher.config.console import only_errors
from meanteacher.config.formats import format_clock
from meanteacher.runs.result import Result
from meanteacher.runs.run_lock import is_held
from meanteacher.sweeps.sweep import Job, Sweep, is_failed, is_finished

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

POLL_SECONDS = 2
"""The time between two reads of the run folders."""

BAR_FORMAT = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}{postfix}]"

TAIL_BYTES = 8192
"""How much of the end of metrics.jsonl is read to find the last line."""


class SweepProgress:
    """Shows the progress within a `with` block: a bar on a terminal, else a line per tenth of the runs that ended.

    seconds: the estimated duration of each missing job, by run folder. Weighted with it, the share of the steps that
    are done gives the remaining time. tell_failures: log each failure, for launchers whose runs print elsewhere.
    """

    def __init__(self, sweep: Sweep, seconds: dict[Path, float], tell_failures: bool = False):
        self.sweep, self.seconds, self.tell_failures = sweep, seconds, tell_failures
        self.started = time.time()
        self.results = dict(sweep.finished)
        self.running = 0
        self.tenths_printed = 0
        self.bar: tqdm | None = None
        self.exit_stack, self.stopped = ExitStack(), threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            bar = tqdm(total=1.0, file=sys.stderr, bar_format=BAR_FORMAT, dynamic_ncols=True)
            self.bar = self.exit_stack.enter_context(bar)
            self.exit_stack.enter_context(logging_redirect_tqdm([logging.getLogger("meanteacher")]))
        self.exit_stack.enter_context(only_errors())
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopped.set()
        self.thread.join()
        self.show()
        self.exit_stack.close()

    def poll(self) -> None:
        """Show the progress at regular intervals until the block ends."""
        while not self.stopped.wait(POLL_SECONDS):
            self.show()

    def show(self) -> None:
        """Read the run folders; update the bar, or print a line if another tenth of the runs has ended."""
        share = self.read_share_done()
        tenths = len(self.results) * 10 // len(self.sweep.jobs)
        if self.bar is not None:
            self.bar.set_description_str(self.describe(share), refresh=False)
            self.bar.update(share - self.bar.n)
            self.bar.refresh()
        elif tenths > self.tenths_printed:
            print(f"sweep   {self.describe(share)}", file=sys.stderr, flush=True)
        self.tenths_printed = tenths

    def read_share_done(self) -> float:
        """Read the results that have changed. Returns the share of the missing work that is done, from 0 to 1."""
        self.running, done = 0, 0.0
        for job in self.sweep.missing:
            if not is_finished(self.results.get(job.folder)) and (result := self.read_new_result(job)):
                before = self.results.pop(job.folder, None)
                if result.status == "running" and is_held(job.folder) is not False:
                    self.running += 1
                    done += self.seconds[job.folder] * read_share_trained(job)
                elif result.status in ("finished", "failed"):
                    self.results[job.folder] = result
                    if self.tell_failures and is_failed(result) and (not before or before.attempts != result.attempts):
                        log.error("error: %s: %s", job.folder, result.reason)
            if job.folder in self.results:
                done += self.seconds[job.folder]
        return done / total if (total := sum(self.seconds.values())) else 1.0

    def read_new_result(self, job: Job) -> Result | None:
        """The result of the job; None if it was not written since the sweep started."""
        try:
            written = (job.folder / "result.json").stat().st_mtime
        except OSError:
            return None
        return job.read_result() if written >= self.started else None

    def describe(self, share: float) -> str:
        """The progress in one line. share: as returned by `read_share_done`."""
        finished = [result for result in self.results.values() if is_finished(result)]
        parts = [
            f"{len(finished)}/{len(self.sweep.jobs)} runs done",
            f"{self.running} running",
            f"{len(self.results) - len(finished)} failed",
        ]
        if 0 < share < 1:
            seconds_left = (time.time() - self.started) * (1 - share) / share
            parts.append(f"ETA {format_clock(seconds_left)}")
        if finished:
            parts.append(describe_best(finished))
        return " · ".join(parts)


def read_share_trained(job: Job) -> float:
    """The share of a running job's steps that is done according to metrics.jsonl; 0 if it cannot be read."""
    try:
        with (job.folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            last_line = file.read().splitlines()[-1]
        return json.loads(last_line)["step"] / job.settings.steps
    except (OSError, ValueError, IndexError, KeyError):
        return 0.0


def describe_best(results: list[Result]) -> str:
    """The smallest error among finished runs, and its run. Each run is judged by the same network as in the comparison.

    Where there are validation images, the error on them is used: the test part must not be used to choose between runs.
    """
    networks = deployed_networks(results)
    errors = [
        (result.validation or result.models)[network].error_last
        for result, network in zip(results, networks, strict=True)
    ]
    error, result = min(zip(errors, results, strict=True), key=lambda pair: pair[0])
    part = " on validation images" if result.validation else ""
    return f"best {100 * error:.1f} %{part} ({result.method}, {result.label} labels, seed {result.seed})"

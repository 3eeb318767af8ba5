"""Progress over a whole sweep, read from the run folders, so that it is the same for every launcher."""

import json
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from meanteacher.comparison.identity import deployed_networks
from meanteacher.config.console import only_errors
from meanteacher.runs.result import Result
from meanteacher.sweeps.sweep import Job, Sweep

SECONDS = 2
"""Between two looks at the folders."""

_BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}{postfix}]"


class Watch:
    """`with Watch(sweep, seconds)`: a bar on a terminal, else a line whenever a tenth more of the runs has ended.

    seconds: what each run that is to do is thought to take; the share of it that is done gives the time that is left.
    """

    def __init__(self, sweep: Sweep, seconds: dict[Path, float]):
        self.sweep, self.seconds = sweep, seconds
        self.began = time.time()
        self.results = {job.folder: job.result() for job in sweep.jobs if job not in sweep.missing}
        self.said, self.bar = 0, None
        self.open, self.ended = ExitStack(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> "Watch":
        if sys.stderr.isatty():
            import logging

            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            self.bar = self.open.enter_context(tqdm(total=1.0, file=sys.stderr, bar_format=_BAR, dynamic_ncols=True))
            self.open.enter_context(logging_redirect_tqdm([logging.getLogger("meanteacher")]))
        self.open.enter_context(only_errors())
        self.thread.start()
        return self

    def __exit__(self, *details) -> None:
        self.ended.set()
        self.thread.join()
        self.show()
        self.open.close()

    def run(self) -> None:
        while not self.ended.wait(SECONDS):
            self.show()

    def show(self) -> None:
        share = self.look()
        ended = len(self.results)
        if self.bar is not None:
            self.bar.set_description_str(self.line(share), refresh=False)
            self.bar.update(share - self.bar.n)
            self.bar.refresh()
        elif ended * 10 // len(self.sweep.jobs) > self.said:
            print(f"sweep   {self.line(share)}", file=sys.stderr, flush=True)
        self.said = ended * 10 // len(self.sweep.jobs)

    def look(self) -> float:
        """Read what has changed; returns the share of the work to do that is done."""
        self.running, done = 0, 0.0
        for job in self.sweep.missing:
            if job.folder not in self.results and (result := self.fresh(job)):
                if result.status == "running":
                    self.running += 1
                    done += self.seconds[job.folder] * trained(job)
                elif result.status in ("finished", "failed"):
                    self.results[job.folder] = result
            if job.folder in self.results:
                done += self.seconds[job.folder]
        return done / total if (total := sum(self.seconds.values())) else 1.0

    def fresh(self, job: Job) -> Result | None:
        """The job's result where it was written since the sweep began."""
        try:
            written = (job.folder / "result.json").stat().st_mtime
        except OSError:
            return None
        return job.result() if written >= self.began else None

    def line(self, share: float) -> str:
        finished = [result for result in self.results.values() if result.status == "finished"]
        parts = [
            f"{len(finished)}/{len(self.sweep.jobs)} runs done",
            f"{self.running} running",
            f"{len(self.results) - len(finished)} failed",
        ]
        if 0 < share < 1:
            left = round((time.time() - self.began) * (1 - share) / share)
            parts.append(f"ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}")
        if finished:
            parts.append(best(finished))
        return " · ".join(parts)


def trained(job: Job) -> float:
    """The share of a running job's steps that its metrics.jsonl shows."""
    try:
        with (job.folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            last = file.read().splitlines()[-1]
        return json.loads(last)["step"] / job.settings.steps
    except (OSError, ValueError, IndexError, KeyError):
        return 0.0


def best(results: list[Result]) -> str:
    """The smallest last error of a deployed network among finished runs, and the run that it belongs to.

    The error on validation images is used if a run has some: the test part is not for choosing between runs.
    """
    deployed = zip(results, deployed_networks(results), strict=True)
    scores = [(result, (result.validation or result.models)[network].error_last) for result, network in deployed]
    run, error = min(scores, key=lambda pair: pair[1])
    part = " on validation images" if run.validation else ""
    return f"best {100 * error:.1f} %{part} ({run.method}, {run.label} labels, seed {run.seed})"

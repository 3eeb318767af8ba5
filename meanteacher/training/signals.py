"""Ctrl-C and a scheduler's signals end a run between two steps, so that it can be saved."""

import logging
import os
import signal
import sys
from contextlib import contextmanager, suppress

import psutil

log = logging.getLogger(__name__)

GRACE = 30
"""Seconds that Ctrl-C leaves to runs in other processes of this machine, to save before theirs are ended."""

PARENT = os.getppid()
"""The process that started this one."""

last: int | None = None
"""The signal that stopped the last run of this process, or the sweep; no job of a sweep starts after it."""


@contextmanager
def stop_signals():
    """A list that SIGINT or SIGTERM makes true, and SIGUSR2 where something waits for it, as submitit does before a time
    limit; the same one again interrupts at once. Does nothing outside the main thread."""
    global last
    stop: list[int] = []
    last = None

    def handle(number: int, frame) -> None:
        global last
        if number in stop:
            raise KeyboardInterrupt
        stop.append(number)
        last = signal.SIGUSR2 if signal.SIGUSR2 in stop else number
        log.warning("stopping after this step; once more stops at once")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if callable(signal.getsignal(signal.SIGUSR2)):
        numbers.append(signal.SIGUSR2)
    try:
        old = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:
        old = {}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def pass_on() -> None:
    """After the run was saved: hand SIGUSR2 to who waits for it, who may put the job back in the queue. Where something
    does, SIGTERM ends the process: to submitit a job that returns is done, also one that Slurm has put back in the queue."""
    if last == signal.SIGUSR2:
        signal.raise_signal(last)
    elif last == signal.SIGTERM and callable(signal.getsignal(signal.SIGUSR2)):
        raise SystemExit(128 + last)


def orphaned() -> bool:
    """Whether this is a worker of joblib whose sweep was killed, so that it would wait for its next job for ever."""
    return any("loky" in part for part in sys.orig_argv) and os.getppid() != PARENT


def reach_workers() -> None:
    """SIGTERM to Ray's workers that hold a job of this process: Ctrl-C misses them. Ray's agents must outlive them."""
    for process in psutil.Process().children(recursive=True):
        with suppress(IndexError, psutil.Error):
            if process.cmdline()[0].startswith("ray::_run_job"):
                process.terminate()


@contextmanager
def patient():
    """On the first Ctrl-C leave the runs of this machine the time to save, which it reaches too; on the second raise."""

    def handle(number: int, frame) -> None:
        global last
        if last is not None:
            raise KeyboardInterrupt
        last = number
        print("stopping after this step; once more stops at once", file=sys.stderr)
        reach_workers()
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def give_up(number: int, frame) -> None:
        raise KeyboardInterrupt

    old = {
        number: signal.signal(number, function)
        for number, function in ((signal.SIGINT, handle), (signal.SIGALRM, give_up))
    }
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)

"""Ctrl-C and the signals of a scheduler end a run between two steps, so that it can be saved."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

log = logging.getLogger(__name__)

GRACE_SECONDS = 30
"""How long runs in other processes on this machine have to save after Ctrl-C or SIGTERM."""

PARENT = os.getppid()
"""The process that started this one."""

STOPPING = "stopping after this step; press Ctrl-C again to stop immediately"

last_signal: int | None = None
"""The signal that stopped the last run of this process, or the sweep; no job of a sweep starts after it."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that collects the stop signals received within the context; empty until one arrives.

    These are SIGINT, SIGTERM, SIGHUP (the terminal was closed) unless it is ignored, as under nohup, and SIGUSR2 if it
    has a handler: submitit handles it to save a job before its time limit. The same signal a second time raises
    KeyboardInterrupt. Outside of the main thread no signal is handled.
    """
    global last_signal
    received: list[int] = []
    last_signal = None

    def handle(number: int, frame: FrameType | None) -> None:
        global last_signal
        if number in received:
            raise KeyboardInterrupt
        received.append(number)
        last_signal = signal.SIGUSR2 if signal.SIGUSR2 in received else number
        log.warning(STOPPING)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    if callable(signal.getsignal(signal.SIGUSR2)):
        numbers.append(signal.SIGUSR2)
    with _handled(numbers, handle):
        yield received


def adopt(received: list[int], number: int) -> None:
    """Stop because another process of the run has received the signal `number`, which this one may receive later."""
    global last_signal
    if number and not received:
        received.append(-number)
        last_signal = number


@contextmanager
def save_requests() -> Iterator[list[int]]:
    """Yield a list that collects SIGUSR1 within the context: a request to save a checkpoint and to go on.

    Outside of the main thread, or if the signal has a handler already, it is not handled.
    """
    received: list[int] = []
    numbers = [] if callable(signal.getsignal(signal.SIGUSR1)) else [signal.SIGUSR1]
    with _handled(numbers, lambda number, frame: received.append(number)):
        yield received


@contextmanager
def raise_on_termination() -> Iterator[None]:
    """Within the context, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, unless they are ignored.

    For the time before and after training, in which there is nothing to save but the run's status.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    with _handled(numbers, handle):
        yield


@contextmanager
def _handled(numbers: list[int], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle these signals within the context; none outside of the main thread."""
    try:
        previous = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def forward_signal() -> None:
    """After an interrupted run was saved, pass the signal on to the handler that waits for it.

    SIGUSR2 goes to submitit's handler, which may requeue the job. SIGTERM ends the process if there is such a handler:
    submitit takes a job that returns for finished, even if Slurm has requeued it.
    """
    if last_signal == signal.SIGUSR2:
        signal.raise_signal(last_signal)
    elif last_signal == signal.SIGTERM and callable(signal.getsignal(signal.SIGUSR2)):
        raise SystemExit(128 + last_signal)


def orphaned() -> bool:
    """Whether this process is a joblib worker whose sweep was killed; it would wait for its next job forever."""
    return any("loky" in part for part in sys.orig_argv) and os.getppid() != PARENT


def stop_workers(number: int) -> None:
    """Stop the workers that run jobs of this process, where the signal `number` has not reached them.

    Ctrl-C reaches joblib's workers, but not Ray's. SIGTERM may reach this process alone: joblib's workers then get
    SIGINT, which stops them only once if they have received SIGTERM too. Other processes of joblib and Ray must outlive
    the workers and are left alone.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            arguments = process.cmdline()
            if arguments[:1] and arguments[0].startswith("ray::_run_job"):
                process.terminate()
            elif number == signal.SIGTERM and "joblib.externals.loky.backend.popen_loky_posix" in arguments:
                process.send_signal(signal.SIGINT)


@contextmanager
def wait_for_runs_to_save() -> Iterator[None]:
    """Within the context, Ctrl-C or SIGTERM leaves the runs on this machine `GRACE_SECONDS` to save. A second raises.

    The runs stop after their current step. Raises KeyboardInterrupt after that time.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        global last_signal
        if last_signal is not None:
            raise KeyboardInterrupt
        last_signal = number
        print(STOPPING, file=sys.stderr)
        stop_workers(number)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def give_up(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle, signal.SIGALRM: give_up}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)

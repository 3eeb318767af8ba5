"""Ctrl-C and SIGTERM end a run between two steps, so that it can be saved."""

import logging
import signal
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def stop_signals():
    """A list that SIGINT or SIGTERM makes true; a second one interrupts at once. Does nothing outside the main thread."""
    stop: list[int] = []

    def handle(number: int, frame) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)
        log.warning("stopping after this step; once more stops at once")

    try:
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        old = {}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

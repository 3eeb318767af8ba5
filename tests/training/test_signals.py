"""Signals: a run is saved first, and whoever waits for the signal hears of it after that."""

import signal
import subprocess
import sys

import pytest

from meanteacher.training import signals


@pytest.fixture
def heard():
    """What arrives at a handler of SIGUSR2, as submitit has one."""
    found = []
    old = signal.signal(signal.SIGUSR2, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGUSR2, old)
    signals.last_signal = None


def test_a_schedulers_signal_is_passed_on_after_the_run_was_saved(heard):
    with signals.stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR2)
        assert stop and not heard, "a second, different signal must not interrupt the saving"
    signals.forward_signal()
    assert heard == [signal.SIGUSR2]


def test_sigterm_under_submitit_does_not_look_like_done(heard):
    with signals.stop_signals():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        signals.forward_signal()


def test_the_same_signal_twice_interrupts_at_once(heard):
    with pytest.raises(KeyboardInterrupt), signals.stop_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals.wait_for_runs_to_save():
        signals.last_signal = None
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_reaches_workers_of_ray_and_no_other_process():
    code = "import time; time.sleep(60)"
    ray, other = (
        subprocess.Popen([name, "-c", code], executable=sys.executable) for name in ("ray::_run_job", "wandb-core")
    )
    try:
        signals.terminate_ray_workers()
        assert ray.wait(timeout=10) == -signal.SIGTERM and other.poll() is None
    finally:
        other.kill()
        other.wait()

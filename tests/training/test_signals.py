"""A stop signal ends a run after its step, and is passed on to other handlers after the run was saved."""

import signal
import subprocess
import sys

import pytest

from meanteacher.training import signals


@pytest.fixture
def received():
    """The signals that arrive at a handler of SIGUSR2 like submitit's."""
    numbers = []
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR2, previous)
    signals.last_signal = None


def test_a_signal_of_the_scheduler_is_forwarded_after_the_run_was_saved(received):
    with signals.stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR2)
        assert stop and not received, "a second, different signal must not interrupt the saving"
    signals.forward_signal()
    assert received == [signal.SIGUSR2]


def test_sigterm_under_submitit_ends_the_process(received):
    with signals.stop_signals():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        signals.forward_signal()


def test_the_same_signal_twice_interrupts_immediately(received):
    with pytest.raises(KeyboardInterrupt), signals.stop_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals.wait_for_runs_to_save():
        signals.last_signal = None
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_terminates_ray_workers_and_no_other_process():
    code = "import time; time.sleep(60)"
    ray, other = (
        subprocess.Popen([name, "-c", code], executable=sys.executable) for name in ("ray::_run_job", "wandb-core")
    )
    try:
        signals.stop_workers(signal.SIGINT)
        assert ray.wait(timeout=10) == -signal.SIGTERM and other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_closed_terminal_stops_a_run_unless_the_signal_is_ignored():
    with signals.stop_signals() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop == [signal.SIGHUP]
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals.stop_signals() as stop, signals.raise_on_termination():
            signal.raise_signal(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_sigusr1_is_a_request_to_save():
    with signals.save_requests() as requests:
        signal.raise_signal(signal.SIGUSR1)
        assert requests
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_before_training_is_raised(number):
    with pytest.raises(KeyboardInterrupt), signals.raise_on_termination():
        signal.raise_signal(number)
    assert signal.getsignal(number) == signal.SIG_DFL

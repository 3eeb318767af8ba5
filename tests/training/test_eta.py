"""The estimate of the remaining time, fed with readings of an imaginary clock, and its use in the training loop."""

import pytest
from conftest import TINY, parsed

from meanteacher.config.settings import Choices
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session
from meanteacher.training import meters, trainer
from meanteacher.training.eta import TIMINGS, WARMUP_STEPS, TimeEstimator, steps_per_reading
from meanteacher.training.train_step import TrainStep

SECONDS = [20.0, 10.0, 5.0, 4.0, 3.0] + [2.0] * 1000
"""Seconds of each step of an imaginary run: the first ones are slower."""


def estimator(**changes) -> TimeEstimator:
    arguments = {
        "steps": 1000,
        "eval_every": 100,
        "start_step": 0,
        "steps_per_reading": 1,
        "images_per_step": 64,
        "images_per_evaluation": 96,
    }
    return TimeEstimator(**arguments | changes)


def feed(estimate: TimeEstimator, seconds: list[float]) -> None:
    """Read the training time after every step that the estimate asks for."""
    for step in estimate.reading_steps:
        estimate.add_reading(step, sum(seconds[:step]))


def test_warm_up_steps_and_a_single_slow_step_do_not_count():
    estimate = estimator()
    seconds = SECONDS.copy()
    seconds[WARMUP_STEPS + 2] = 50.0
    feed(estimate, seconds)
    assert len(estimate.readings) == TIMINGS + 1 and estimate.readings[0][0] == WARMUP_STEPS
    assert estimate.seconds_per_step == 2 and estimate.images_per_second == 32


def test_until_an_evaluation_is_timed_an_image_costs_a_third_of_a_training_image():
    estimate = estimator()
    feed(estimate, SECONDS)
    assert estimate.seconds_per_evaluation == pytest.approx(96 / 3 / 32)
    assert estimate.seconds_left(10) == pytest.approx(990 * 2 + 10 * 1)


def test_evaluations_count_with_their_measured_seconds_except_the_first():
    estimate = estimator()
    feed(estimate, SECONDS)
    estimate.add_evaluation(100, sum(SECONDS[:100]), 60.0)
    assert estimate.seconds_per_evaluation == pytest.approx(1)
    for step, seconds in ((200, 7.0), (300, 5.0), (400, 9.0)):
        estimate.add_evaluation(step, sum(SECONDS[:step]), seconds)
    assert estimate.seconds_per_evaluation == 7
    assert estimate.seconds_left(400) == pytest.approx(600 * 2 + 6 * 7)


def test_an_evaluation_replaces_the_first_timings_by_the_mean_since_the_warm_up():
    estimate = estimator()
    feed(estimate, SECONDS)
    estimate.add_evaluation(WARMUP_STEPS + 1, 0.0, 1.0)
    assert estimate.seconds_per_step == 2, "too early: the first timings stay"
    slower = SECONDS[:50] + [4.0] * 50
    estimate.add_evaluation(100, sum(slower), 1.0)
    assert estimate.seconds_per_step == pytest.approx((45 * 2 + 50 * 4) / 95)


@pytest.mark.parametrize(("eval_every", "evaluations"), [(100, 10), (300, 4), (999, 2), (1000, 1), (2**62, 1)])
def test_the_evaluation_after_the_last_step_counts(eval_every, evaluations):
    estimate = estimator(eval_every=eval_every)
    feed(estimate, SECONDS)
    assert estimate.seconds_left(0) == pytest.approx(2000 + evaluations)
    assert estimate.seconds_left(1000) == 0 or 1000 % eval_every


def test_the_whole_run_includes_the_warm_up():
    estimate = estimator()
    feed(estimate, SECONDS)
    step = estimate.reading_steps[-1]
    assert estimate.total_seconds(step, sum(SECONDS[:step])) == pytest.approx(sum(SECONDS[:1000]) + 10)
    short = estimator(steps=6, eval_every=6)
    feed(short, SECONDS)
    assert short.total_seconds(step, sum(SECONDS[:step])) == pytest.approx(sum(SECONDS[:6]) + 1)


def test_on_a_gpu_several_queued_steps_are_timed_together():
    estimate = estimator(steps_per_reading=steps_per_reading("cuda"), start_step=300)
    assert list(estimate.reading_steps[:3]) == [300 + WARMUP_STEPS, 310 + WARMUP_STEPS, 320 + WARMUP_STEPS]
    feed(estimate, [0.5] * 1000)
    assert estimate.seconds_per_step == pytest.approx(0.5)


class Clock:
    """Stands in for the `time` module: time passes only where a test says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A clock that advances by the seconds of each training step."""
    clock, original = Clock(), TrainStep.__call__

    def take(self, step):
        original(self, step)
        clock.now += SECONDS[step]

    monkeypatch.setattr(meters, "time", clock)
    monkeypatch.setattr(trainer, "time", clock)
    monkeypatch.setattr(TrainStep, "__call__", take)
    return clock


def test_the_announced_times_are_those_of_the_run(tmp_path, clock, caplog, monkeypatch):
    caplog.set_level("INFO", "meanteacher")
    settings = parsed(*TINY, "steps=60", "eval_every=20", "trainer.log_every=60", "trainer.checkpoint_minutes=1000")
    with RunDir(tmp_path / "run", "", False) as run_dir:
        run = Session(settings, Choices(), run_dir, show_progress=False).trainer
        evaluations = iter([30.0, 3.0, 3.0])

        def evaluate(models):
            clock.now += next(evaluations)
            return {"test/student/error": 0.5}

        monkeypatch.setattr(run, "evaluator", evaluate)
        monkeypatch.setattr(run, "loggers", [])
        assert run.fit() == "finished"
    first, second = (record.message for record in caplog.records if record.message.startswith("speed"))
    pace = 2 / 16 / 3 * 359 * 2  # an evaluation of two networks before one is timed
    assert first == f"speed   8 images/s, about {(50 * 2 + 3 * pace) / 60:.1f} min left"
    assert second == "speed   8 images/s, about 43 s left (an evaluation takes 3.0 s)"
    assert "shorter with fewer steps=" in caplog.text and "fewer than 16 images per step" in caplog.text
    assert clock.now == pytest.approx(sum(SECONDS[:60]) + 36)
    assert run.summary()["training_seconds"] == pytest.approx(sum(SECONDS[:60])), "evaluations do not count"


def test_nothing_is_announced_after_the_last_step(caplog):
    caplog.set_level("INFO", "meanteacher")
    estimate = estimator()
    feed(estimate, [0.5] * 1000)
    caplog.clear()
    estimate.log_speed(estimate.steps)
    assert not caplog.records


def test_a_run_is_estimated_from_its_first_steps(tmp_path, clock):
    settings = parsed(*TINY, "steps=1000", "eval_every=500")
    with RunDir(tmp_path / "run", "", False) as run_dir:
        seconds = Session(settings, Choices(), run_dir, show_progress=False).trainer.estimate_seconds()
    assert seconds == pytest.approx(sum(SECONDS[:1000]) + 2 * 2 / 16 / 3 * 359 * 2)

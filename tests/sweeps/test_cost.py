"""The estimated duration of a sweep."""

import pytest
from test_progress import make_jobs, make_sweep

from meanteacher.config.errors import UserError
from meanteacher.sweeps import cost


def test_the_cost_is_taken_from_finished_runs_or_else_timed(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "meanteacher")
    jobs = make_jobs(tmp_path, "finished", "finished", None, None)
    monkeypatch.setattr(cost, "time_first_steps", lambda job: pytest.fail("timed, although such runs are finished"))
    assert cost.estimate_seconds(make_sweep(tmp_path, jobs)) == {job.folder: 100.5 for job in jobs[2:]}
    assert "cost    about 3.4 min if run one after another" in caplog.text and "sweep=digits" not in caplog.text
    monkeypatch.setattr(cost, "time_first_steps", lambda job: 3 * 3600.0)
    cost.estimate_seconds(make_sweep(tmp_path, make_jobs(tmp_path / "new", None)))
    assert "cost    about 3.0 h" in caplog.text and "sweep=digits, which takes minutes" in caplog.text


def test_a_sweep_in_which_no_run_can_be_timed_is_refused(tmp_path, monkeypatch):
    def refuse(job):
        raise UserError("no data")

    monkeypatch.setattr(cost, "time_first_steps", refuse)
    with pytest.raises(UserError, match="no data"):
        cost.estimate_seconds(make_sweep(tmp_path, make_jobs(tmp_path, None)))


def test_runs_that_cannot_be_timed_are_reported_and_count_with_the_mean_of_the_others(tmp_path, monkeypatch, caplog):
    def refuse_long_runs(job):
        if job.settings.steps > 100:
            raise UserError("no data")
        return 40.0

    monkeypatch.setattr(cost, "time_first_steps", refuse_long_runs)
    short, long = make_jobs(tmp_path / "short", None)[0], make_jobs(tmp_path / "long", None)[0]
    object.__setattr__(long, "settings", long.settings.replace({"steps": 200}))
    assert cost.estimate_seconds(make_sweep(tmp_path, [short, long])) == {short.folder: 40.0, long.folder: 40.0}
    assert "unknown for some runs: no data" in caplog.text

"""The patches of submitit, and that the private parts they rely on are still as in submitit 1.5.4."""

import inspect

import pytest

from meanteacher.sweeps import submitit_patches

core = pytest.importorskip("submitit.core.core")
slurm = pytest.importorskip("submitit.slurm.slurm")


def test_the_private_parts_of_submitit_have_not_changed():
    hint = "has changed in this version of submitit: adapt meanteacher/sweeps/submitit_patches.py"
    assert list(inspect.signature(core.Job.results).parameters) == ["self"], f"Job.results {hint}"
    assert "results" not in vars(slurm.SlurmJob), f"SlurmJob.results {hint}"
    assert isinstance(slurm.SlurmJob.watcher, slurm.SlurmInfoWatcher), f"SlurmJob.watcher {hint}"
    watcher = slurm.SlurmInfoWatcher(delay_s=1)
    assert isinstance(watcher._registered, set) and isinstance(watcher._finished, set), f"SlurmInfoWatcher {hint}"
    for name, parameters in {"_make_command": ["self"], "read_info": ["self", "string"], "update": ["self"]}.items():
        method = getattr(slurm.SlurmInfoWatcher, name, None)
        assert method and list(inspect.signature(method).parameters) == parameters, f"SlurmInfoWatcher.{name} {hint}"


def test_the_error_of_a_lost_job_does_not_end_the_wait_for_the_others(monkeypatch, caplog):
    def lose(job):
        raise RuntimeError("job 7 was killed")

    monkeypatch.setattr(core.Job, "results", lose)
    with submitit_patches.applied():
        assert core.Job.results(None) == [None] and "job 7 was killed" in caplog.text
    assert core.Job.results is lose


def test_without_accounting_a_job_that_is_not_in_the_queue_has_ended():
    watcher = submitit_patches.squeue_watcher()
    assert watcher._make_command() is None
    watcher._registered = {"12_0", "12_1", "12_2"}
    watcher._finished = {"12_2"}
    assert watcher.read_info(b"12_0|RUNNING\n13|PENDING\n") == {
        "12_0": {"State": "RUNNING"},
        "12_1": {"State": "ENDED"},
    }


def test_submitit_takes_an_ended_job_for_done(monkeypatch):
    watcher = submitit_patches.squeue_watcher()
    monkeypatch.setattr("subprocess.check_output", lambda *args, **kwargs: b"12_0|RUNNING\n")
    for job_id in ("12_0", "12_1"):
        watcher.register_job(job_id)
    assert not watcher.is_done("12_0", mode="force") and watcher.is_done("12_1", mode="cache")

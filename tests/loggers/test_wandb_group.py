"""A sweep in Weights & Biases: each job is a closed run of the sweep's group, and one more run holds the comparison."""

import pytest
from conftest import TINY, command
from test_wandb import read_offline_runs


@pytest.fixture
def sweep_records(tmp_path) -> tuple[dict, list[dict], str]:
    """The run of the comparison, the runs of the jobs, and the id of the sweep, read from offline files."""
    arguments = ["sweep=digits", *TINY[1:-1], "label=5,20", "seed=0", "logger.wandb.mode=offline"]
    process = command(*arguments, cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    jobs = [
        record
        for path in tmp_path.glob("outputs/digits/*/label-20/*/*/result.json")
        for record in read_offline_runs(path.parent)
    ]
    (comparison,) = read_offline_runs(folder)
    return comparison, jobs, folder.name


def test_the_runs_of_a_sweep_hold_what_a_dashboard_needs(sweep_records):
    comparison, jobs, sweep_id = sweep_records
    assert len(jobs) == 2
    for job in jobs:
        run, summary = job["run"], job["summary"]
        assert (run.run_group, run.job_type, job["exit"]) == (sweep_id, "train", 0)
        method = job["config"]["choices.method"]
        assert set(run.tags) == {"digits", method, "label-20"}
        assert job["config"]["label"] == 20 and job["config"]["optimizer.lr"] > 0 and job["config"]["trainer.log_every"]
        deployed = {"supervised": "average", "mean_teacher": "teacher"}[method]
        assert 0 <= summary[f"models/{deployed}/error_last"] <= 1 and summary["status"] == "finished"
        assert not any(key.startswith("settings") for key in summary)
    run = comparison["run"]
    assert (run.run_group, run.job_type, comparison["exit"]) == (sweep_id, "comparison", 1), "a run of the sweep failed"
    assert "comparison" in run.tags and comparison["config"]["runs"] == 4
    (logged,) = comparison["history"].values()
    kinds = {key.removesuffix("/_type"): value for key, value in logged.items() if key.endswith("/_type")}
    table, picture = "table-file", "image-file"
    assert kinds == {"comparison/table": table, "comparison/problems": table, "comparison/errors": picture}
    assert comparison["summary"]["verdicts"]

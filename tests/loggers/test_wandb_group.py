"""A sweep in Weights & Biases: each job one closed run of the sweep's group, and one more run with the comparison."""

import pytest
from conftest import TINY, command
from test_wandb import transcripts


@pytest.fixture
def told(tmp_path) -> tuple[dict, list[dict], str]:
    """The comparison's run, the jobs' runs, and the sweep's name, read back from offline files."""
    arguments = ["sweep=digits", *TINY[1:-1], "label=5,20", "seed=0", "logger.wandb.mode=offline"]
    found = command(*arguments, cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    jobs = [
        one for path in tmp_path.glob("outputs/digits/*/label-20/*/*/result.json") for one in transcripts(path.parent)
    ]
    (comparison,) = transcripts(folder)
    return comparison, jobs, folder.name


def test_the_runs_of_a_sweep_hold_what_a_dashboard_needs(told):
    comparison, jobs, name = told
    assert len(jobs) == 2
    for job in jobs:
        run, summary = job["run"], job["summary"]
        assert (run.run_group, run.job_type, job["exit"]) == (name, "train", 0)
        method = job["config"]["choices.method"]
        assert set(run.tags) == {"digits", method, "label-20"}
        assert job["config"]["label"] == 20 and job["config"]["optimizer.lr"] > 0 and job["config"]["trainer.log_every"]
        deployed = {"supervised": "average", "mean_teacher": "teacher"}[method]
        assert 0 <= summary[f"models/{deployed}/error_last"] <= 1 and summary["status"] == "finished"
        assert not any(key.startswith("settings") for key in summary)
    run = comparison["run"]
    assert (run.run_group, run.job_type, comparison["exit"]) == (name, "comparison", 1), "a run of the sweep failed"
    assert "comparison" in run.tags and comparison["config"]["runs"] == 4
    (logged,) = comparison["history"].values()
    kinds = {key.removesuffix("/_type"): value for key, value in logged.items() if key.endswith("/_type")}
    table, picture = "table-file", "image-file"
    assert kinds == {"comparison/table": table, "comparison/problems": table, "comparison/errors": picture}
    assert comparison["summary"]["verdicts"]

"""A run whose loss or weights become NaN or infinite stops with a reason and keeps its last good checkpoint."""

import pytest
import torch
from conftest import TINY, parsed
from short_runs import go

from meanteacher.config.errors import UserError
from meanteacher.runs.build import load_data
from meanteacher.runs.result import Result
from meanteacher.training.train_step import TrainStep


def test_a_loss_that_is_not_finite_stops_the_run_and_says_so(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        go(tmp_path / "run", "optimizer.lr=1e30", "trainer.log_every=1")
    result = Result.read(tmp_path / "run" / "result.json")
    assert result.status == "failed" and "not finite" in result.reason


def test_a_loss_that_is_not_finite_is_told_with_its_step_terms_and_images(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", "meanteacher")
    original, batches = TrainStep.compute, []

    def poison_in_step_4(self, step, *images):
        if step == 3:
            batches.append([tensor.tolist() for tensor in (images[0], images[2])])
            next(self.method.student.parameters()).data.view(-1)[0] = float("nan")
        original(self, step, *images)

    monkeypatch.setattr(TrainStep, "compute", poison_in_step_4)
    with pytest.raises(
        UserError, match=r"the loss is not finite by step 6 \(.*'supervised': nan.* first in step 4 "
    ) as e:
        go(tmp_path / "run", "trainer.log_every=6", "eval_every=6", "trainer.checkpoint_minutes=100")
    names = load_data(parsed(*TINY)).train.names
    for positions, part in zip(batches[0], ("labeled", "unlabeled"), strict=True):
        assert f"the {part} images {', '.join(names[i] for i in positions[:5])}, …" in str(e.value)
        listed = f"the {part} images of step 4: {', '.join(names[i] for i in positions)}"
        assert listed in (tmp_path / "run/run.log").read_text()


def test_a_state_that_is_not_finite_is_never_saved_or_evaluated(tmp_path, monkeypatch):
    original = TrainStep.__call__

    def poison_in_step_4(self, step):
        original(self, step)
        if step == 3:
            next(self.method.student.parameters()).data.view(-1)[0] = float("nan")

    monkeypatch.setattr(TrainStep, "__call__", poison_in_step_4)
    often = ["trainer.checkpoint_minutes=0.0000001", "trainer.log_every=100", "eval_every=100"]
    with pytest.raises(UserError, match=r"a weight is not finite by step 4; lower optimizer.lr .* no checkpoint holds"):
        go(tmp_path / "run", *often)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        saved = torch.load(tmp_path / "run" / name, weights_only=True)
        assert saved["step"] <= 3 and all(value.isfinite().all() for value in saved["method"].values())
    with pytest.raises(UserError, match="a weight is not finite by step 4; "):
        go(tmp_path / "other", "eval_every=4", "trainer.log_every=100")
    monkeypatch.setattr(TrainStep, "__call__", original)
    assert go(tmp_path / "run", *often).status == "finished"

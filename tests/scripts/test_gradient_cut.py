"""`scripts/gradient_cut`: without the gradient of its consistency term, Mean Teacher is supervised learning."""

import torch
from conftest import ROOT, TINY, settings

from meanteacher.config import trust
from meanteacher.config.settings import Choices, Settings
from meanteacher.runs.run import run


def train(folder, method: str, target: str | None, *overrides: str) -> dict[str, torch.Tensor]:
    """The student's state after a short run. target: the class of the method, if not its own."""
    config = settings(*TINY, f"method={method}", "optimizer.lr=0.1", "optimizer.weight_decay=0.0005", *overrides)
    config["method"]["_target_"] = target or config["method"]["_target_"]
    run(Settings.parse(config), Choices(dataset="digits", method=method), folder, "python run.py", False)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["method"]
    return {name: value for name, value in state.items() if name.startswith("student.")}


def test_mean_teacher_without_its_gradient_trains_the_student_as_supervised_does(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "trusted", {"gradient_cut"})
    monkeypatch.syspath_prepend(ROOT / "scripts" / "gradient_cut")
    supervised = train(tmp_path / "supervised", "supervised", None)
    apart = (
        "method.passes=separate",
        "method.labeled_view=weak",
    )  # the unlabeled images share no batch norm statistics
    cut = train(tmp_path / "cut", "mean_teacher_strong", "gradient_cut.MeanTeacherCut", *apart)
    torch.testing.assert_close(cut, supervised, rtol=0, atol=0)
    uncut = train(tmp_path / "uncut", "mean_teacher_strong", None, *apart)
    assert any(not torch.equal(uncut[name], value) for name, value in supervised.items())

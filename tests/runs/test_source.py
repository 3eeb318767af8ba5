"""The digest of the source code that a run uses."""

from conftest import settings

import meanteacher.runs.source as source
from meanteacher.config.signatures import module_file


def modules(monkeypatch, *overrides):
    """The modules that count for these settings."""
    counted = []
    monkeypatch.setattr(source, "module_file", lambda module: counted.append(module) or module_file(module))
    source.source_digest(settings(*overrides))
    return set(counted)


def test_modules_that_a_run_uses_count(monkeypatch):
    counted = modules(monkeypatch, "method=mean_teacher", "model=wrn_10_1", "dataset=digits")
    for name in (
        "training.trainer",
        "methods.mean_teacher",
        "methods.common.ema",
        "models.wide_resnet",
        "data.datasets",
    ):
        assert f"meanteacher.{name}" in counted


def test_modules_that_a_run_does_not_use_do_not_count(monkeypatch):
    counted = modules(monkeypatch, "method=mean_teacher", "model=wrn_10_1", "dataset=digits")
    for name in (
        "methods.vat",
        "models.convnet13",
        "data.folder",
        "comparison.page",
        "sweeps.sweep",
        "loggers.dashboard",
    ):
        assert f"meanteacher.{name}" not in counted


def test_a_method_of_another_project_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_method.py").write_text("class Own: ...")
    chosen = settings() | {"method": {"_target_": "own_method.Own"}}
    before = source.source_digest(chosen)
    (tmp_path / "own_method.py").write_text("class Own: pass")
    assert source.source_digest(chosen) != before

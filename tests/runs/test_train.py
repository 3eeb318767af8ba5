"""Arguments of the command line before Hydra reads them."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from meanteacher.runs.train import quote_unicode, remove_empty


@pytest.mark.parametrize("path", ["фото/labels.csv", "/data/Fotos für alle/猫 1", "~/é.json"])
def test_paths_beyond_ascii_need_no_quotes(path):
    quoted = quote_unicode(f"dataset.root={path}")
    assert OverridesParser.create().parse_override(quoted).value() == path
    assert quote_unicode(quoted) == quoted


@pytest.mark.parametrize("argument", ["label=1000", "seed=0,1", "dataset.root=a b", "logger=[é,b]", "x=é,ü", "--help"])
def test_other_arguments_stay_as_they_are(argument):
    assert quote_unicode(argument) == argument


def test_the_empty_run_folder_of_a_refused_run_is_removed_and_no_other(tmp_path, monkeypatch):
    output, run = tmp_path / "outputs", tmp_path / "outputs/digits/seed-0/run"
    run.mkdir(parents=True)
    (output / "digits/kept").mkdir()
    remove_empty(run, output)
    assert [path.name for path in output.rglob("*")] == ["digits", "kept"]
    (output / "digits/kept").rmdir()
    remove_empty(output / "digits/gone", output)
    assert not output.exists() and tmp_path.exists()
    (tmp_path / "mine/run").mkdir(parents=True)
    remove_empty(tmp_path / "mine/run", output)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "beyond the output folder, only the run folder"
    monkeypatch.chdir(tmp_path / "mine")
    remove_empty(tmp_path / "mine", output)
    assert (tmp_path / "mine").exists(), "the current folder stays"

"""A run that is refused before its first step prints the reason in one line and leaves the folders unchanged."""

import importlib.util
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, command, parsed
from PIL import Image
from short_runs import go, go_until_an_error

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.runs import run
from meanteacher.runs.result import Result


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dataset=cifar11"], "dataset=cifar11: there is no such option; did you mean cifar10?"),
        (["sweep=digit"], "sweep=digit: there is no such option; did you mean digits?"),
        pytest.param(
            ["hydra/launcher=ray"],
            "hydra/launcher=ray: there is no such option; pip install -e '.[ray]' brings it",
            marks=pytest.mark.skipif(bool(importlib.util.find_spec("ray")), reason="ray is installed"),
        ),
        (["labell=3"], "labell: there is no such key; did you mean label?"),
        (["method.teacher.deca=3"], "method.teacher.deca: there is no such key; did you mean decay?"),
        (["+foo=3"], "cannot be added or removed"),
        (["seed=18446744073709551616"], "seed=18446744073709551616: should be less than 9223372036854775808"),
        (["label=ten"], "label=ten: should be a valid integer"),
        (["dataset=image_folder"], "dataset.root"),
        (["dataset=image_folder", "dataset.root=empty"], "empty"),
        (["split=nowhere.json"], "split=nowhere.json: cannot be read"),
        (["output=file/below", "experiment=quickstart"], "file"),
    ],
)
def test_bad_input_fails_fast_in_one_line(arguments, words, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    started = time.time()
    process = command(*arguments, cwd=tmp_path)
    assert time.time() - started < 20  # under 3 s on an idle machine
    assert process.returncode == 1 and words in process.stderr
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1, process.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["label=5"], "label=5: digits has 10 classes"),
        (["label=1439"], "label=1439: digits has 1438 images with labels; use at most 1438"),
        (["split=wrong.txt"], "split=wrong.txt, line 1: no single training image"),
        (["model.depth=12"], "model.depth=12"),
        (["label=all", "dataset.labeled_in_unlabeled=false"], "no unlabeled images are left"),
        (["dataset=image_folder", "dataset.root=photos"], "photos/train/cat/2.jpg cannot be read"),
    ],
)
def test_bad_input_found_later_fails_in_one_line(arguments, words, tmp_path):
    (tmp_path / "wrong.txt").write_text("cat.png cat\n")
    for name in ("cat/1.png", "cat/2.jpg", "dog/1.png"):
        (tmp_path / "photos/train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "photos/train" / name)
    (tmp_path / "photos/train/cat/2.jpg").write_bytes(b"torn")
    process = command(*TINY, *arguments, cwd=tmp_path)
    assert process.returncode == 1 and words in process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert (
        len(errors) == 1
        and "Traceback" not in process.stderr
        and "Error executing" not in process.stderr
        and process.stderr.splitlines()[-1] == errors[0]
    )


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    go(tmp_path / "run")
    with pytest.raises(UserError, match="holds another run"):
        go(tmp_path / "run", "seed=1")


def test_a_folder_with_the_configuration_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("mine: 1\n")
    with pytest.raises(UserError, match="run: holds a config.yaml that is not of a run; choose another folder"):
        go(tmp_path / "run")
    assert (tmp_path / "run/config.yaml").read_text() == "mine: 1\n"


@pytest.mark.parametrize("override", ["label=5", "trainer.labeled_batch=100000000", "trainer.device=cuda"])
def test_nothing_remains_of_a_run_that_is_refused(override, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError):
        go(tmp_path / "run", override)
    assert files_below(tmp_path) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(UserError):
        go(tmp_path / "run", "label=5")
    assert files_below(tmp_path) == ["run", "run/notes.txt"]


def test_a_refused_folder_stays_as_it_is(tmp_path, monkeypatch):
    run_folder = tmp_path / "run"
    go_until_an_error(run_folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.yaml").write_text("mine: 1")
    with pytest.raises(UserError, match=r"holds a config.yaml that is not of a run"):
        go(tmp_path / "other")
    assert files_below(tmp_path / "other") == ["config.yaml"] and not (tmp_path / "other.lock").exists()
    with pytest.raises(UserError, match="trainer.device=cuda: not available"):
        go(run_folder, "trainer.device=cuda")
    before = files_below(tmp_path)
    assert "run/checkpoint.pt" in before and Result.read(run_folder / "result.json").status == "failed"
    with pytest.raises(UserError, match="trainer.device=cuda: not available"):
        go(run_folder, "trainer.device=cuda", "fresh=true")
    assert files_below(tmp_path) == before, "the run that was set aside is back"


def test_a_refused_run_of_a_sweep_leaves_its_reason(tmp_path):
    with pytest.raises(UserError):
        run.run(parsed(*TINY, "label=5"), Choices(), tmp_path / "run", "c", show_progress=False)
    assert "label=5" in Result.read(tmp_path / "run/result.json").reason

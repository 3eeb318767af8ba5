"""The command label-next: which images it offers, its page in a real browser, and training with what the page saves."""

import csv
import html
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import needs_browser, rendered

from meanteacher.config.cli import main
from meanteacher.config.errors import UserError
from meanteacher.data import splits
from meanteacher.data.table import table
from meanteacher.inference import load
from meanteacher.labeling.choice import choose_next, find_candidates
from meanteacher.labeling.label_next import label_next
from meanteacher.labeling.page import class_keys, render_label_page
from meanteacher.labeling.retraining import image_table, retraining_command
from meanteacher.labeling.run_images import locate, open_run
from meanteacher.labeling.selection import margin


@pytest.fixture(scope="module")
def run(finished_run):
    """The finished run of an image folder whose labels are all known, 21 of them used and 24 for validation."""
    return open_run(finished_run)


def rename_last(run, name: str = 'unlabeled/<b>&"x", größe.png'):
    """The same run as if its last image, which has no label, had this name."""
    train = run.data.train
    assert train.targets[-1] == -1
    return replace(run, data=replace(run.data, train=replace(train, names=[*train.names[:-1], name])))


def unseen(run) -> np.ndarray:
    """The images whose labels the data set knows, but the run has not seen."""
    return np.setdiff1d(np.flatnonzero(run.data.train.targets >= 0), run.known)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_candidates_are_unlabeled_and_no_copies(run):
    candidates, duplicates = find_candidates(run)
    assert not set(candidates) & set(run.known) and duplicates == 0
    unlabeled = np.setdiff1d(np.arange(len(run.data.train.targets)), run.known)
    assert (candidates == unlabeled).all()
    pixels = run.data.train.pixels.copy()
    pixels[unlabeled[0]] = pixels[run.split.labeled[0]]
    pixels[unlabeled[1]] = pixels[run.split.validation[0]]
    pixels[unlabeled[5]] = pixels[unlabeled[3]]
    copies = replace(run, data=replace(run.data, train=replace(run.data.train, pixels=pixels)))
    candidates, duplicates = find_candidates(copies)
    assert duplicates == 3 and set(unlabeled) - set(candidates) == {unlabeled[0], unlabeled[1], unlabeled[5]}


def test_choice_is_by_the_deployed_network(run):
    choice = choose_next(run, 5, "margin")
    candidates, _ = find_candidates(run)
    probabilities = load(run.folder).probabilities(torch.from_numpy(run.data.train.pixels[candidates])).double()
    order = margin(probabilities).argsort(descending=True, stable=True)[:5]
    assert choice.positions.tolist() == candidates[order].tolist()
    torch.testing.assert_close(choice.probabilities, probabilities[order])
    assert len(choose_next(run, 10_000, "cover").positions) == len(candidates)


def test_command_writes_table_and_page_once(finished_run, tmp_path, capsys):
    arguments = ["label-next", str(finished_run), "4", "--by", "disagreement", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    rows = read_csv((tmp_path / "out/label-next.csv").read_text())
    assert [row["rank"] for row in rows] == list("1234") and "4 of" in capsys.readouterr().out
    assert all(Path(row["path"]).is_file() for row in rows)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    page = (tmp_path / "out/label-next.html").read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page) and page.count("data:image/png;base64,") == 4
    assert main(arguments) == 1 and "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_bad_input_is_one_line(finished_run, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(finished_run, moved)
    result = json.loads((moved / "result.json").read_text())
    result["settings"]["dataset"]["root"] = str(tmp_path / "gone")
    (moved / "result.json").write_text(json.dumps(result))
    for arguments, message in (
        ([str(tmp_path)], "holds no run"),
        ([str(moved)], "--data DIR"),
        ([str(moved), "--data", str(tmp_path)], "--data DIR"),
        ([str(finished_run), "--out", "/dev/null/x"], "Not a directory"),
    ):
        assert main(["label-next", *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert main(["label-next", str(moved), "2", "--data", str(finished_run.parent / "images")]) == 0


def test_a_table_is_looked_for_in_the_folder_that_data_names(tmp_path):
    node = {"_target_": "meanteacher.data.table.table", "name": "table", "file": "/gone/labels.csv"}
    assert locate(node, tmp_path)["file"] == str(tmp_path / "labels.csv")
    assert locate(node, tmp_path / "new.csv")["file"] == str(tmp_path / "new.csv")
    assert locate(node, None) == node


def test_table_keeps_validation_images_for_a_split(run, tmp_path):
    chosen = unseen(run)[:3]
    table = image_table(run, chosen)
    new = dict.fromkeys(run.training_paths[i] for i in chosen)
    file = tmp_path / "labels.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "part"])
        names = dict(zip(run.data.train.names, run.data.train.targets, strict=True))
        for path, label, part in zip(*table.values(), strict=True):
            if path in new:
                label = names[str(Path(path).relative_to(run.settings.dataset.node["root"]))]
            writer.writerow([path, run.classes[label] if label >= 0 else "", part])
    split = splits.read(file, run.data, labeled_in_unlabeled=True)
    assert split.labeled.tolist() == np.union1d(run.split.labeled, chosen).tolist()
    assert split.validation.tolist() == run.split.validation.tolist()
    assert split.unlabeled.tolist() == run.split.unlabeled.tolist()


def test_retraining_command_replaces_what_the_table_says(run):
    command = "python run.py dataset=image_folder dataset.root=/x dataset.image_size=8 label=21 validation=24 seed=3"
    run = replace(run, result=run.result.replace(command=command))
    known, new = (retraining_command(run, chosen) for chosen in (unseen(run), run.split.unlabeled))
    kept = "dataset.image_size=8"
    assert known == f"python run.py dataset=image_folder dataset.root=/x {kept} seed=3 split=labels.csv label=COUNT"
    assert new == f"python run.py {kept} validation=24 seed=3 dataset=table dataset.file=labels.csv label=all"


def test_a_data_set_without_files_and_labels_has_no_command(run):
    """As data sets of Hugging Face's library with unlabeled images."""
    settings = run.settings.replace({"dataset": {**run.settings.dataset.model_dump(), "root": None}})
    bare, choice = replace(run, settings=settings), choose_next(run, 40, "random")
    assert retraining_command(bare, choice.positions) is None and bare.files is None
    assert "enter them where it has its labels" in render_label_page(bare, choice)
    assert bare.training_paths == run.data.train.names


SET_LABELS = """
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
press("2"); press("Enter"); press("ArrowRight"); press("1"); press("ArrowLeft"); press("Backspace"); press("3");
document.querySelectorAll("#classes button")[0].click();
const select = document.querySelectorAll("figure select")[6];
select.value = "1"; select.dispatchEvent(new Event("change"));
"""
"""0: class 1; 1: its guess; 2: skipped; 3: class 0, removed, then class 2; 4: class 0, by a click; 6: class 1."""

SHOW = """
document.body.append(Object.assign(document.createElement("pre"), { id: "saved", textContent: csv() }));
"""


@needs_browser
def test_labels_set_in_a_browser_are_saved_kept_and_read(run, tmp_path):
    """A page for 8 images, one of them with a name that HTML, JavaScript and CSV could misread."""
    renamed = rename_last(run)
    first = find_candidates(renamed)[0][-1:]
    choice = choose_next(run, 8, "margin")
    choice = replace(choice, positions=np.concatenate([first, np.setdiff1d(choice.positions, first)])[:8])
    page = tmp_path / "page.html"
    page.write_text(render_label_page(renamed, choice))
    shown = rendered(page, tmp_path / "profile", SET_LABELS + SHOW)
    saved = html.unescape(re.search(r'<pre id="saved">(.*?)</pre>', shown, re.DOTALL)[1])
    assert "5 of 8 labeled" in shown and len(re.findall(r'<figure class="[^"]*done', shown)) == 5
    classes, guesses = run.classes, choice.probabilities.argmax(1).tolist()
    expected = {0: classes[1], 1: classes[guesses[1]], 3: classes[2], 4: classes[0], 6: classes[1]}
    rows = {row["path"]: row for row in read_csv(saved)}
    assert len(rows) == len(renamed.data.train.names) + len(renamed.data.test.names)
    for i, position in enumerate(choice.positions):
        row = rows[renamed.training_paths[position]]
        assert (row["label"], row["part"]) == (expected.get(i, ""), "train")
    assert sum(bool(row["label"]) for row in rows.values() if row["part"] == "train") == 21 + 24 + 5
    figures = re.sub(r'title="[^"]*"', "", re.search(r"<main.*?</main>", shown, re.DOTALL)[0])
    assert "&lt;b&gt;" in figures and "<b>" not in figures
    file = tmp_path / "labels.csv"
    file.write_text(saved.replace(renamed.training_paths[-1].replace('"', '""'), run.training_paths[-1]))
    reading = {"image_size": 8, "resize": "crop", "broken": "error", "exclude_duplicates": "none"}
    data = table(file=str(file), data_dir=str(tmp_path / "data"), **reading)
    assert data.classes == run.classes and (data.train.targets >= 0).sum() == 21 + 24 + 5
    assert len(data.test.targets) == len(run.data.test.targets)
    again = rendered(page, tmp_path / "profile", SHOW)
    assert "5 of 8 labeled" in again, "labels are kept in the browser"


def test_digits_have_their_own_keys():
    assert class_keys([str(digit) for digit in range(10)]) == "0123456789"
    assert class_keys(["cat", "dog", "7"]) == "123" and class_keys(["a", "A"]) == "12"
    assert len(class_keys([f"class {i}" for i in range(100)])) == 36


def test_an_image_without_labels_left_is_an_error(run):
    everything = replace(run.split, labeled=np.arange(len(run.data.train.targets)), validation=np.array([], np.int64))
    with pytest.raises(UserError, match="no unlabeled image left"):
        choose_next(replace(run, split=everything), 3, "margin")


def test_python_function_uses_the_run_folder(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    files = label_next(folder, 2)
    assert {path.parent for path in files.values()} == {folder / "label-next"}

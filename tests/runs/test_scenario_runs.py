"""Runs with few unlabeled images, classes without labels and long tails: their files, scores, and the kept split."""

import json

import pytest
import torch
from conftest import TINY, parsed

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.runs import run
from meanteacher.runs.build import load_data, make_split
from meanteacher.runs.class_scores import class_scores, scores_by_class
from meanteacher.runs.result import Result


def go(path, *overrides) -> Result:
    return run.run(parsed(*TINY, *overrides), Choices(dataset="digits", method="m"), path, "python run.py")


def test_a_run_with_mismatch_has_the_labeled_classes_as_outputs_and_scores_the_others_as_unknown(tmp_path):
    result = go(tmp_path / "run", "label=30", "mismatch=0.5", "unlabeled=100", "validation=60")
    split = json.loads((tmp_path / "run/split.json").read_text())
    assert (split["mismatch"], split["unlabeled"], len(split["classes"])) == (0.5, 100, 6)
    assert len(split["unlabeled_positions"]) == 100 and set(split["labeled_classes"]) == set(split["classes"])
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert any(len(weights) == 6 for name, weights in state["method"].items() if "classifier" in name)
    assert (result.data["classes"], result.data["test"]) == (6, 359)
    for network in result.models.values():
        assert list(network.recall) == split["classes"] and 0 <= network.auroc_unknown <= 1
        assert network.balanced_accuracy == pytest.approx(sum(network.recall.values()) / 6)
    assert all(network.recall is None for network in result.validation.values())
    assert Result.read(tmp_path / "run/result.json") == result


def test_a_run_with_long_tails(tmp_path):
    result = go(tmp_path / "run", "label=100", "imbalance=10", "unlabeled_imbalance=10")
    split = json.loads((tmp_path / "run/split.json").read_text())
    counts = [split["labeled_classes"].count(name) for name in split["classes"]]
    assert counts == sorted(counts, reverse=True) and (counts[0], counts[-1]) == (25, 2)
    assert (split["imbalance"], split["unlabeled_imbalance"]) == (10, 10)
    assert all(network.auroc_unknown is None and len(network.recall) == 10 for network in result.models.values())


def test_supervised_does_not_depend_on_the_unlabeled_images(tmp_path):
    """Comparisons rely on it: a run of the baseline counts at every mismatch."""
    first, second = (go(tmp_path / n, "method=supervised", "label=30", f"mismatch={n}") for n in "01")
    assert first.models == second.models and first.split_digest == second.split_digest
    assert first.digest != second.digest


@pytest.mark.parametrize("options", [["unlabeled=100"], ["mismatch=0.5", "label=30"], ["imbalance=5", "label=100"]])
def test_a_resumed_run_verifies_its_split(options, tmp_path):
    settings = parsed(*TINY, *options)
    first = make_split(load_data(settings), settings, tmp_path)
    written = (tmp_path / "split.json").read_bytes()
    again = make_split(load_data(settings), settings, tmp_path)
    assert again.unlabeled.tolist() == first.unlabeled.tolist() and again.digest() == first.digest()
    assert (tmp_path / "split.json").read_bytes() == written
    content = json.loads(written)
    content["unlabeled_positions"] = first.unlabeled[:-5].tolist()
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not hold the images and labels that the settings choose"):
        make_split(load_data(settings), settings, tmp_path)


def test_class_scores_equal_their_closed_forms():
    """Classes a: 2 of 3 right, b: 1 of 1, c: no image. Largest probabilities: known .9 .8 .7 .6, unknown .75 .5."""
    probabilities = torch.tensor([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0]])
    unknown = torch.tensor([[0.75, 0.25, 0], [0.5, 0.25, 0.25]])
    targets = torch.tensor([0, 0, 0, 1]).numpy()
    logits = probabilities.log()
    by_class = scores_by_class(logits, targets, ["a", "b", "c"])
    scores = class_scores(by_class, logits, unknown.log())
    assert scores["recall"] == {"a": pytest.approx(2 / 3), "b": 1.0, "c": None}
    assert scores["balanced_accuracy"] == pytest.approx(5 / 6)
    assert scores["auroc_unknown"] == pytest.approx((2 + 4) / 8), (
        "of 8 pairs, .75 is below 2 and .5 below 4 known images"
    )
    assert "auroc_unknown" not in class_scores(by_class, logits, None)

"""Scores of pseudo-labels against counts by hand, and that no method sees the labels that they are computed from."""

import copy

import numpy as np
import pytest
import torch
from conftest import options
from small_steps import open_step
from torch.utils._pytree import tree_leaves

from meanteacher.methods import PseudoLabels
from meanteacher.training.pseudo_labels import PseudoLabelMeter

CPU = torch.device("cpu")
WITHOUT = {"supervised", "pi_model", "vat", "cct"}
"""Methods whose targets are not labels of another pass or network."""


def by_hand(steps, classes):
    """The scores from lists of (pseudo-label, weight, hidden label) of all images of an interval, one by one."""
    images = [image for step in steps for image in zip(*step, strict=True) if image[2] >= 0]
    total = sum(w for _, w, _ in images)
    scores = {"coverage": sum(w > 0 for _, w, _ in images) / len(images), "weighted_coverage": total / len(images)}
    if total:
        scores["precision"] = sum(w for p, w, y in images if p == y) / total
        shares = [sum(w for p, w, _ in images if p == c) / total for c in range(classes)]
        true = [sum(y == c for _, _, y in images) / len(images) for c in range(classes)]
        scores["balance"] = sum(min(pair) for pair in zip(shares, true, strict=True))
    return {f"pseudo_label_{name}": pytest.approx(score, rel=1e-5, abs=1e-6) for name, score in scores.items()}


@pytest.mark.parametrize("soft", [True, False])
def test_scores_are_ratios_of_sums_over_the_interval(soft):
    rng, classes = np.random.default_rng(0), 4
    meter = PseudoLabelMeter(classes, CPU)
    for scale in ((1, 0, 0.2), (0, 0), (1,)):  # steps that keep no image, and an interval of them
        steps = []
        for s in scale:
            probabilities = rng.dirichlet(np.ones(classes), 20).astype(np.float32)
            weight = (s * rng.uniform(0, 1, 20) * rng.integers(0, 2, 20)).astype(np.float32)
            target, hidden = probabilities.argmax(1), rng.integers(-1, classes, 20)
            given = torch.from_numpy(probabilities if soft else target)
            meter.add(PseudoLabels(given, torch.from_numpy(weight)), torch.from_numpy(hidden))
            steps.append((target, weight, hidden))
        assert meter.scores() == by_hand(steps, classes)


def test_missing_weights_are_1_and_the_mean_of_the_steps_precisions_is_not_taken():
    meter = PseudoLabelMeter(2, CPU)
    meter.add(PseudoLabels(torch.tensor([0, 1, 1, 1]), None), torch.tensor([0, 0, 0, 0]))
    meter.add(PseudoLabels(torch.tensor([0, 1]), torch.tensor([0.5, 0.0])), torch.tensor([0, 1]))
    scores = {"precision": 1.5 / 4.5, "coverage": 5 / 6, "weighted_coverage": 4.5 / 6, "balance": 1 - (5 / 6 - 1 / 3)}
    assert meter.scores() == {f"pseudo_label_{name}": pytest.approx(score) for name, score in scores.items()}


def test_images_of_other_classes_count_as_wrong_and_belong_to_the_true_shares():
    meter = PseudoLabelMeter(2, CPU)
    meter.add(PseudoLabels(torch.tensor([0, 1, 1, 1]), None), torch.tensor([0, -2, 1, -1]))
    scores = {"precision": 2 / 3, "coverage": 1, "weighted_coverage": 1, "balance": 2 / 3}
    assert meter.scores() == {f"pseudo_label_{name}": pytest.approx(score) for name, score in scores.items()}


def test_without_hidden_labels_there_are_no_scores():
    meter = PseudoLabelMeter(2, CPU)
    assert meter.scores() == {}
    meter.add(PseudoLabels(torch.tensor([0, 1]), None), torch.tensor([-1, -1]))
    assert meter.scores() == {}


@pytest.mark.parametrize("method", options("method"))
def test_hidden_labels_change_the_scores_and_not_a_bit_of_the_method(method, tmp_path):
    with open_step(tmp_path / "run", f"method={method}", "label=20") as train_step:
        loader, start, states, sums = train_step.batches.loader, copy.deepcopy(train_step.state_dict()), [], []
        for change in (False, True):
            if change:
                hidden = loader.hidden_targets >= 0
                loader.targets[hidden] = loader.hidden_targets[hidden] = 9 - loader.targets[hidden]
            train_step.load_state_dict(copy.deepcopy(start))
            train_step(0)
            states.append(tree_leaves(copy.deepcopy(train_step.state_dict() | {"pseudo_labels": None})))
            sums.append(train_step.pseudo_labels.sums.clone())
    pairs = zip(*states, strict=True)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)
    if method in WITHOUT:
        assert not sums[0].any()
        return
    pseudo, hidden = ([total[start : start + 10] for total in sums] for start in (0, 11))
    assert hidden[0].sum() > 4, "return `pseudo_labels` in StepOutput, or name the method in WITHOUT"
    assert torch.equal(*pseudo) and torch.equal(hidden[0].flip(0), hidden[1])


def test_labels_that_the_method_knows_are_not_hidden(tmp_path):
    with open_step(tmp_path / "run", "label=20") as train_step:
        loader = train_step.batches.loader
        everywhere = torch.arange(len(loader.targets))
        hidden, labeled = loader.hidden_target(everywhere), torch.from_numpy(loader.labeled.pool)
    assert (hidden[labeled] == -1).all() and (hidden == -1).sum() == 20
    assert torch.equal(hidden[hidden >= 0], loader.target(everywhere)[hidden >= 0])


def test_the_sums_are_part_of_a_checkpoint_and_older_ones_have_none(tmp_path):
    with open_step(tmp_path / "run", "method=fixmatch") as train_step:
        train_step(0)
        state = train_step.state_dict()
        sums = state["pseudo_labels"].clone()
        train_step(1)
        train_step.load_state_dict(state | {"pseudo_labels": sums})
        assert torch.equal(train_step.pseudo_labels.sums, sums)
        train_step.load_state_dict({name: part for name, part in state.items() if name != "pseudo_labels"})

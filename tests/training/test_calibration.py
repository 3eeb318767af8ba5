"""Temperature, threshold for a precision and conformal threshold against closed forms."""

import math

import numpy as np
import pytest
import torch

from meanteacher.training.calibration import (
    TEMPERATURES,
    conformal_threshold,
    fit_temperature,
    precision_threshold,
    true_probabilities,
)


@pytest.mark.parametrize("right, scale", [(80, 1.0), (80, 7.0), (55, 0.3), (99, 2.0)])
def test_the_temperature_of_two_classes_has_a_closed_form(right, scale):
    """With the same two logits (scale, 0) for all of 100 images, the best probability is the share of right ones."""
    logits = torch.tensor([[scale, 0.0]]).repeat(100, 1)
    targets = (torch.arange(100) >= right).long()
    expected = scale / math.log(right / (100 - right))
    assert fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_of_drawn_labels_is_the_one_they_were_drawn_with():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 5, generator=generator)
    targets = torch.multinomial((logits / 2.5).softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, targets) == pytest.approx(2.5, rel=0.03)


def test_separated_images_do_not_sharpen_the_probabilities():
    logits = 3 * torch.eye(4)
    assert fit_temperature(logits, torch.arange(4)) == 1.0
    assert fit_temperature(logits[:1], torch.tensor([0])) == 1.0


def test_the_temperature_is_bounded():
    assert fit_temperature(3 * torch.eye(4), (torch.arange(4) + 1) % 4) == pytest.approx(TEMPERATURES[1])
    mostly = torch.tensor([[1e-3, 0.0]]).repeat(100, 1)
    assert fit_temperature(mostly, (torch.arange(100) >= 99).long()) == pytest.approx(TEMPERATURES[0])
    with pytest.raises(ValueError):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_the_lowest_confidence_that_reaches_the_precision():
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    correct = np.array([True, True, True, False, True, False])
    found = precision_threshold(confidences, correct, 0.8)  # 4 of 5; at least 5 images
    assert found[:3] == (0.5, 0.8, 5)
    z, n, p = 1.959964, 5, 0.8
    middle, half = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert found.interval == pytest.approx(((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)))
    assert precision_threshold(confidences, correct, 0.6)[:3] == (0.4, 4 / 6, 6)  # and not 0.7, with 3 of 3
    shuffled = np.random.default_rng(0).permutation(6)
    assert precision_threshold(confidences[shuffled], correct[shuffled], 0.8) == found


def test_too_few_images_have_no_threshold():
    assert precision_threshold(np.full(19, 0.9), np.ones(19, bool), 0.95) is None
    assert precision_threshold(np.full(20, 0.9), np.ones(20, bool), 0.95).accepted == 20
    assert precision_threshold(np.linspace(0, 1, 100), np.zeros(100, bool), 0.5) is None
    assert precision_threshold(np.zeros(0), np.zeros(0, bool), 0.5) is None


def test_images_of_equal_confidence_are_accepted_together():
    confidences, correct = np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, True, False, False])
    assert precision_threshold(confidences, correct, 0.6) is None  # 2 of 2 would be, but the 0.5 are inseparable


def test_the_conformal_threshold_is_the_quantile_of_n_plus_one():
    """Of the true probabilities 0.01, …, 0.19, ⌈20 · 0.9⌉ = 18 must be in their set: those from 0.02 on."""
    probabilities = np.random.default_rng(0).permutation(np.arange(1, 20) / 100)
    assert conformal_threshold(probabilities, 0.9) == 0.02
    assert conformal_threshold(np.full(9, 0.3), 0.9) == 0.3
    assert conformal_threshold(np.full(8, 0.3), 0.9) is None


def test_the_coverage_holds_on_new_images():
    rng = np.random.default_rng(0)
    covered = [(rng.beta(2, 1, 400) >= conformal_threshold(rng.beta(2, 1, 50), 0.8)).mean() for _ in range(400)]
    assert 0.79 < np.mean(covered) < 0.83  # between 0.8 and 0.8 + 1 / 51


def test_true_probabilities_are_those_of_the_targets():
    probabilities = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    assert true_probabilities(probabilities, torch.tensor([1, 0])).tolist() == pytest.approx([0.8, 0.6])

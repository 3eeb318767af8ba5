"""What is checked, chosen and told before the first step: batches, unbalanced labels, uninitialized weights."""

import numpy as np
import pytest
import torch
from conftest import parsed
from torch import nn

from meanteacher.data.splits import make_split
from meanteacher.runs import plan
from meanteacher.runs.build import SkipRandomInitialization, choose_eval_batch


@pytest.mark.parametrize(("side", "count"), [(32, 1024), (96, 1024), (224, 188), (5000, 1)])
def test_forward_passes_of_an_evaluation_hold_a_bounded_number_of_pixels(side, count):
    assert choose_eval_batch(parsed().trainer, (3, side, side)) == count


@pytest.mark.parametrize(
    ("labels", "sampling", "told"), [(5, "natural", True), (4, "natural", False), (5, "balanced", False)]
)
def test_balanced_sampling_is_named_where_classes_have_very_different_numbers_of_labels(
    blobs, caplog, labels, sampling, told
):
    """Two labels of each class but the first, which has more."""
    rows = np.flatnonzero((np.arange(200) < 8) | ((blobs.train.targets == 0) & (np.arange(200) < 4 * labels)))
    split = make_split(blobs, rows, np.empty(0, np.int64), True)
    with caplog.at_level("INFO"):
        plan.log_data(blobs, split, parsed(f"trainer.labeled_sampling={sampling}"), "device")
    assert ("trainer.labeled_sampling=balanced" in caplog.text) == told
    assert f"not balanced by class: 2 to {labels} per class" in caplog.text


def test_uninitialized_weights_outside_of_the_bounds_do_not_hang_trunc_normal():
    weight = torch.full((2, 2), 1e9)
    with SkipRandomInitialization():
        nn.init.trunc_normal_(weight, std=0.02)
    assert (weight == 1e9).all()
    nn.init.trunc_normal_(weight, std=0.02)
    assert (weight.abs() < 1).all()

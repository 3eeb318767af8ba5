"""What is checked, chosen and told before the first step: memory, the batches of evaluations, unbalanced labels."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import parsed

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Views
from meanteacher.data.splits import make_split
from meanteacher.runs import plan
from meanteacher.runs.build import check_step_memory, choose_eval_batch


def test_a_step_that_cannot_fit_into_memory_is_refused_in_one_line():
    trainer = parsed("trainer.labeled_batch=10", "trainer.unlabeled_batch=20").trainer
    method = SimpleNamespace(views=Views(labeled=("weak",), unlabeled=("weak", "strong")))
    needed = (10 + 2 * 20) * 3 * 2000 * 2000 * 4
    check_step_memory(method, (3, 2000, 2000), trainer, needed)
    with pytest.raises(UserError, match=r"10 labeled and 20 unlabeled images of 3×2000×2000 takes more than 2\.2 GiB"):
        check_step_memory(method, (3, 2000, 2000), trainer, needed - 1)
    supervised = SimpleNamespace(views=Views(labeled=("weak",), unlabeled=()))
    check_step_memory(supervised, (3, 2000, 2000), trainer, needed // 5)


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

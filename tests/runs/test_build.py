"""Steps and evaluations of large images: what cannot fit into memory is refused, and forward passes stay small."""

from types import SimpleNamespace

import pytest
from conftest import parsed

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Views
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

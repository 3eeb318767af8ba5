"""UDA's loss against NumPy on a linear network, and its training signal annealing."""

import numpy as np
import pytest
import torch
from closed_forms import ce, softmax
from small_problems import FACTS, Problem

from meanteacher.methods.common.weighting import FixedThreshold
from meanteacher.methods.uda import UDA

ALPHA = {
    "none": lambda x: 1,
    "linear": lambda x: x,
    "log": lambda x: 1 - np.exp(-5 * x),
    "exp": lambda x: np.exp(5 * (x - 1)),
}


def uda(problem, **changes):
    keys = {"unlabeled_weight": 2.0, "temperature": 0.4, "tsa": "none", "steps": 100} | FACTS | changes
    return UDA(student=problem.student(), weighting=FixedThreshold(threshold=0.8), **keys)


@pytest.mark.parametrize("tsa", ALPHA)
@pytest.mark.parametrize("step", [0, 1, 30, 70, 100])
def test_the_training_signal_is_annealed_from_chance_to_1(tsa, step):
    threshold = uda(Problem(), tsa=tsa, num_classes=10).tsa_threshold(torch.tensor(float(step))).item()
    assert threshold == pytest.approx(ALPHA[tsa](step / 100) * 0.9 + 0.1, rel=1e-5)
    if tsa == "none" or (tsa, step) in (("linear", 100), ("exp", 100)):
        assert threshold == 1, "not 1 minus a rounding error: an image with probability 1 must be kept"


@pytest.mark.parametrize(("tsa", "kept"), [("none", 4), ("linear", 3), ("exp", 2)])
def test_uda_loss_equals_its_closed_form(tsa, kept):
    problem = Problem()
    problem.target = np.array([0, 1, 2, 2])
    output = problem.run(uda(problem, tsa=tsa), torch.tensor(50.0))
    right = softmax(problem.z(problem.x))[np.arange(4), problem.target]
    keep = right <= ALPHA[tsa](0.5) * 2 / 3 + 1 / 3
    assert keep.sum() == kept, right
    z = problem.z(problem.u)
    sharp, mask = softmax(z / 0.4), softmax(z).max(1) >= 0.8
    assert 0 < mask.sum() < (sharp.max(1) >= 0.8).sum(), "otherwise the test would not notice which of them is judged"
    consistency = (mask * -(sharp * np.log(softmax(problem.z(problem.u2)))).sum(1)).mean()
    expected = (keep * ce(problem.z(problem.x), problem.target)).sum() / kept + 2 * consistency
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.metrics["labeled_kept"].item() == kept / 4
    assert problem.judge_has_no_gradient()


def test_uda_without_a_kept_labeled_image_is_finite():
    problem = Problem()
    problem.target = softmax(problem.z(problem.x)).argmax(1)
    output = problem.run(uda(problem, tsa="linear"), torch.tensor(0.0))
    assert output.metrics["labeled_kept"] == 0 and output.metrics["supervised"] == 0 and output.loss.isfinite()

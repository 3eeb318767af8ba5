"""Pseudo-Label's loss and gradient against NumPy on a linear network."""

import numpy as np
import pytest
from closed_forms import ce, softmax
from small_problems import CLASSES, FACTS, Problem

from meanteacher.methods.common.weighting import FixedThreshold
from meanteacher.methods.pseudo_label import PseudoLabel
from meanteacher.optim.schedules import Constant


@pytest.mark.parametrize("passes", ["together", "separate"])
def test_pseudo_label_loss_and_gradient_equal_their_closed_form(passes):
    problem = Problem()
    method = PseudoLabel(
        student=problem.student(),
        weighting=FixedThreshold(threshold=0.8),
        unlabeled_weight=2.0,
        unlabeled_ramp=Constant(steps=100, warmup=0.4, warmup_shape="linear"),
        passes=passes,
        **FACTS,
    )
    output = problem.run(method)
    p = softmax(problem.z(problem.u))
    mask, hard = p.max(1) >= 0.8, np.eye(CLASSES)[p.argmax(1)]
    expected = ce(problem.z(problem.x), problem.target).mean()
    expected += 2 * 0.75 * (mask * ce(problem.z(problem.u), p.argmax(1))).mean()
    assert 0 < mask.sum() < 12 and output.loss.item() == pytest.approx(expected, rel=1e-5)
    by_hand = 1.5 * mask[:, None] / 12 * (p - hard) @ problem.weights
    np.testing.assert_allclose(problem.unlabeled[0].grad.numpy(), by_hand, rtol=1e-3, atol=1e-6)

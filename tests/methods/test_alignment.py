"""Distribution alignment against a loop in NumPy, without memory, and from its first batch on."""

import numpy as np
import pytest
import torch
from closed_forms import f32, softmax
from small_problems import CLASSES, predictions

from meanteacher.methods.common.alignment import DistributionAlignment


def test_alignment_equals_a_loop_with_and_without_labeled_predictions():
    rng = np.random.default_rng(8)
    to_labeled, to_uniform = (
        DistributionAlignment(decay=0.9, start="uniform").bind(num_classes=CLASSES) for _ in range(2)
    )
    model, target = np.full(CLASSES, 1 / CLASSES), np.full(CLASSES, 1 / CLASSES)
    for _ in range(5):
        p, labeled = predictions(rng, 10), predictions(rng, 4)
        model, target = 0.9 * model + 0.1 * p.mean(0), 0.9 * target + 0.1 * labeled.mean(0)
        for goal, aligned in ((target, to_labeled(f32(p), f32(labeled))), (1 / CLASSES, to_uniform(f32(p), None))):
            expected = p * goal / model
            expected /= expected.sum(1, keepdims=True)
            np.testing.assert_allclose(aligned.numpy(), expected, rtol=1e-4)


def test_alignment_without_memory_moves_the_marginal_to_the_target():
    rng = np.random.default_rng(9)
    p = softmax(rng.normal(size=(200, CLASSES)) + [1.0, 0, 0])
    aligned = DistributionAlignment(decay=0.0, start="uniform").bind(num_classes=CLASSES)(f32(p), None).mean(0)
    assert abs(aligned - 1 / CLASSES).max() < 0.3 * abs(p.mean(0) - 1 / CLASSES).max()


def test_alignment_can_start_at_the_first_batch():
    p = torch.rand(2, 6, 3).softmax(dim=2)
    alignment = DistributionAlignment(decay=0.9, start="first_batch").bind(num_classes=3)
    alignment(p[0], None)
    torch.testing.assert_close(alignment.model, p[0].mean(0))
    restored = DistributionAlignment(decay=0.9, start="first_batch").bind(num_classes=3)
    restored.load_state_dict(alignment.state_dict())
    restored(p[1], None)
    torch.testing.assert_close(restored.model, 0.9 * p[0].mean(0) + 0.1 * p[1].mean(0))
    assert restored.target.tolist() == pytest.approx([1 / 3] * 3)

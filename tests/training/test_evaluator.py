"""Evaluation against closed forms, in evaluation mode, whatever the batch size."""

import numpy as np
import pytest
import torch
from conftest import settings
from torch import nn

from meanteacher.data.loader import ImageStore
from meanteacher.runs.build import build
from meanteacher.training.evaluator import EvalSplit, Evaluator, measure

CPU = torch.device("cpu")


def evaluator(blobs, batch):
    augment = build(settings("augment=none")["augment"])
    augment.fit(blobs.train.pixels)
    storage = ImageStore(blobs.test.pixels, CPU, "device")
    part = EvalSplit(storage, np.arange(10, 40), torch.from_numpy(blobs.test.targets[10:40]))
    return Evaluator(parts={"test": part}, augment=augment, batch=batch, device=CPU, precision="fp32", compiled=False)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 4)
    ).train()


def test_measures_equal_their_closed_forms():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(500, 4)) * 2, rng.integers(0, 4, 500)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, hit = probs.max(1), probs.argmax(1) == target
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    found = measure(torch.tensor(logits, dtype=torch.float32), torch.tensor(target))
    assert found["error"].item() == pytest.approx(1 - hit.mean())
    assert found["cross_entropy"].item() == pytest.approx(-np.log(probs[np.arange(500), target]).mean(), rel=1e-5)
    assert found["ece"].item() == pytest.approx(sum(gaps), rel=1e-4)


def test_networks_are_evaluated_in_evaluation_mode_and_left_as_they_were(blobs):
    net, one = network(), evaluator(blobs, 7)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = one.logits(net, "test")
    assert torch.equal(first, one.logits(net, "test")) and net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.allclose(first, evaluator(blobs, 30).logits(net, "test"), atol=1e-5)
    assert torch.equal(first, one.logits(net.eval(), "test")) and not net.training


def test_every_image_of_the_part_counts_once(blobs):
    one, net = evaluator(blobs, 7), network()
    found = one({"student": net, "teacher": net})
    assert set(found) == {f"test/{m}/{k}" for m in ("student", "teacher") for k in ("error", "cross_entropy", "ece")}
    predicted = one.logits(net, "test").argmax(1).numpy()
    assert len(predicted) == 30 == one.images_per_evaluation
    assert found["test/student/error"] == pytest.approx((predicted != blobs.test.targets[10:40]).mean())

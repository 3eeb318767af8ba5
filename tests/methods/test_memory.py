"""The memory bank against a loop, and SimMatch and CoMatch on a small network against NumPy."""

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, softmax, unit
from small_problems import CLASSES, FACTS, IMAGES, STEP
from torch import nn

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.comatch import CoMatch
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.memory_bank import MemoryBank
from meanteacher.methods.common.weighting import FixedThreshold
from meanteacher.methods.simmatch import SimMatch
from meanteacher.models import Network
from meanteacher.optim.schedules import Constant


class Flat(Network):
    """Points of 5 numbers, 4 linear features, 3 classes."""

    def __init__(self):
        super().__init__()
        self.layer, self.classifier, self.feature_channels = nn.Linear(5, 4), nn.Linear(4, CLASSES), 4
        self.classifier.weight.data.mul_(6)  # confident predictions

    def features(self, images):
        return self.layer(images)


def outputs(model, points):
    """Logits and embeddings of a `Projected` network, in NumPy."""
    w = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    features = points @ w["network.layer.weight"].T + w["network.layer.bias"]
    hidden = np.maximum(features @ w["projection.0.weight"].T + w["projection.0.bias"], 0)
    logits = features @ w["network.classifier.weight"].T + w["network.classifier.bias"]
    return logits, unit(hidden @ w["projection.2.weight"].T + w["projection.2.bias"])


def entropy(target, other):
    return -(target * np.log(other)).sum(1)


def step(method, rng, labeled_index):
    """A training step on random points. The output, the points (labeled ones first), the targets, the index."""
    n = len(labeled_index)
    points = [rng.normal(size=(n, 5)), *(rng.normal(size=(12, 5)) for _ in method.views.unlabeled)]
    target, views = rng.integers(0, CLASSES, n), [f32(p).requires_grad_() for p in points]
    output = method.training_step(
        Labeled(torch.tensor(labeled_index), (views[0],), torch.tensor(target)),
        Unlabeled(torch.arange(12), tuple(views[1:])),
        STEP,
    )
    output.loss.backward()
    assert views[1].grad is None or not views[1].grad.any(), "the weak view gives targets alone"
    return output, points, target


def shared(**changes):
    return {
        "student": Flat(),
        "dimension": 6,
        "alignment": DistributionAlignment(decay=0.5, start="uniform"),
        "weighting": FixedThreshold(threshold=0.65),
        "temperature": 0.3,
        "smoothing": 0.6,
        "unlabeled_weight": 2.0,
        **FACTS,
        **changes,
    }


def simmatch(judge="student"):
    torch.manual_seed(1)
    teacher = Teacher(decay=0.9, warmup=False, bn="own", mode="train")
    ramp = Constant(steps=100, warmup=0.6, warmup_shape="linear")
    own = {"bank_size": 8, "bank_decay": 0.7, "memory_ramp": ramp, "instance_weight": 3.0}
    return SimMatch(judge=judge, teacher=teacher, **own, **shared())


class Aligned:
    """Alignment to uniform classes with decay .5, in NumPy."""

    def __init__(self):
        self.model = np.full(CLASSES, 1 / CLASSES)

    def __call__(self, p):
        self.model = 0.5 * self.model + 0.5 * p.mean(0)
        aligned = p * (1 / CLASSES + 1e-6) / (self.model + 1e-6)
        return aligned / aligned.sum(1, keepdims=True)


# the bank


def test_written_images_keep_their_slot_and_the_oldest_are_overwritten():
    rng = np.random.default_rng(1)
    bank, slots, order = MemoryBank(size=5, dimension=2, num_classes=CLASSES), {}, []
    for _ in range(8):
        index = rng.integers(0, 9, 4)
        rows, classes = unit(rng.normal(size=(4, 2))), np.eye(CLASSES)[rng.integers(0, CLASSES, 4)]
        before = dict(slots)
        for image in dict.fromkeys(index.tolist()):
            last = np.flatnonzero(index == image)[-1]
            if image in before:
                slots[image] = (unit(0.7 * before[image][0][None] + 0.3 * rows[last][None])[0], classes[last])
            else:
                slots[image] = (rows[last], classes[last])
                order.append(image)
        if len(slots) > 5:
            bank.write(torch.tensor(index), f32(rows), f32(classes), 0.7)
            break
        bank.write(torch.tensor(index), f32(rows), f32(classes), 0.7)
        assert bank.owner.tolist() == order + [-1] * (5 - len(order))
        for place, image in enumerate(order):
            np.testing.assert_allclose(bank.embeddings[place].numpy(), slots[image][0], rtol=1e-5, atol=1e-6)
            assert bank.classes[place].tolist() == slots[image][1].tolist()
    assert len(order) > 5 and bank.owner[: len(order) - 5].tolist() == order[5:], "the first slots are given away"


def test_an_image_twice_in_a_batch_takes_one_slot():
    bank = MemoryBank(size=3, dimension=2, num_classes=CLASSES)
    rows = f32([[1, 0], [0, 1], [0.6, 0.8]])
    bank.write(torch.tensor([7, 4, 7]), rows, torch.eye(CLASSES), 0.0)
    assert bank.owner.tolist() == [7, 4, -1] and torch.equal(bank.embeddings[:2], rows[[2, 1]])
    assert bank.cursor == 2 and bank.filled.tolist() == [True, True, False]


def test_appended_rows_fill_the_bank_like_a_ring():
    bank, rows = MemoryBank(size=5, dimension=1, num_classes=1), torch.arange(12.0).view(4, 3, 1)
    for batch in rows:
        bank.append(batch, batch)
    assert bank.embeddings.flatten().tolist() == [10, 11, 7, 8, 9] and bank.cursor == 2 and bank.filled.all()


def test_similarities_leave_empty_slots_out_and_carry_a_gradient_to_the_query_alone():
    bank = MemoryBank(size=4, dimension=2, num_classes=CLASSES)
    bank.append(f32([[1, 0], [0.6, 0.8]]), torch.eye(CLASSES)[:2])
    query = f32([[0.0, 1.0]]).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bank.log_similarity(query, 0.1)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0, :2].detach().numpy(), np.log(softmax(np.array([[0, 8.0]])))[0], rtol=1e-4)
    assert (found[0, 2:] < -1e8).all() and not found[0, 2:].exp().any()
    found[0, 0].backward()
    assert query.grad.any() and not bank.embeddings.requires_grad


# SimMatch


@pytest.mark.parametrize("judge", ["student", "ema"])
def test_simmatch_loss_and_bank_equal_their_closed_form(judge):
    rng, one, align = np.random.default_rng(2), simmatch(judge), Aligned()
    judging = one.student
    if judge == "ema":
        judging = one.teacher.model
        with torch.no_grad():
            for p in judging.parameters():
                p.add_(0.3 * torch.randn_like(p))
    stored, kept = {}, []
    for number, index in enumerate([[3, 8, 5, 20], [8, 30, 3, 11]]):
        output, (x, weak, strong), target = step(one, rng, index)
        logits, z = outputs(judging, weak)
        p, used = align(softmax(logits)), 0.5 * bool(stored)  # at step 30 of 100, a ramp over 60 is at .5
        instance, pseudo = 0.0, p
        if stored:
            slots = np.stack([row for row, _ in stored.values()])
            label = np.array([c for _, c in stored.values()])
            a = softmax(z @ slots.T / 0.3)
            instance_target = a * p[:, label]
            instance_target /= instance_target.sum(1, keepdims=True)
            instance = entropy(instance_target, softmax(outputs(one.student, strong)[1] @ slots.T / 0.3)).mean()
            pseudo = p + 0.4 * used * (a @ np.eye(CLASSES)[label] - p)
        mask = pseudo.max(1) >= 0.65
        kept.extend(mask)
        expected = ce(outputs(one.student, x)[0], target).mean() + 3 * used * instance
        expected += 2 * (mask * entropy(pseudo, softmax(outputs(one.student, strong)[0]))).mean()
        assert output.loss.item() == pytest.approx(expected, rel=1e-5), number
        assert output.metrics["kept"].item() == pytest.approx(mask.mean())
        keys = outputs(judging, x)[1]
        assert one.bank.filled.sum() == len(stored), "written after the backward pass, for compiled gradients"
        one.after_step(STEP)
        for i, key, c in zip(index, keys, target, strict=True):
            stored[i] = (unit((0.7 * stored[i][0] + 0.3 * key)[None])[0] if i in stored else key, c)
        assert one.bank.owner.tolist() == list(stored) + [-1] * (8 - len(stored))
        rows = np.stack([row for row, _ in stored.values()])
        np.testing.assert_allclose(one.bank.embeddings[: len(stored)].numpy(), rows, rtol=1e-4, atol=1e-5)
    assert instance > 0 and 0 < sum(kept) < len(kept)
    assert all(p.grad is None for p in judging.parameters()) == (judge == "ema")


def test_simmatchs_teacher_averages_the_projection_too_and_the_networks_alone_are_evaluated():
    one = simmatch("ema")
    before = one.teacher.model.projection[0].weight.clone()
    with torch.no_grad():
        one.student.projection[0].weight.add_(1)
    one.pending = (torch.arange(1), torch.ones(1, 6), torch.ones(1, CLASSES))
    one.after_step(torch.tensor(0.0))
    torch.testing.assert_close(one.teacher.model.projection[0].weight, before + 0.1)
    assert [type(model) for model in one.eval_models().values()] == [Flat, Flat]


# CoMatch


def test_comatch_loss_and_bank_equal_their_closed_form():
    torch.manual_seed(2)
    one = CoMatch(bank_size=32, graph_threshold=0.4, contrast_weight=3.0, **shared())
    rng, align, kept = np.random.default_rng(3), Aligned(), []
    slots, stored = np.zeros((0, 6)), np.zeros((0, CLASSES))
    for number in range(3):
        output, (x, weak, strong, other), target = step(one, rng, [3, 8, 5, 20])
        (logits, keys), (judged, z), (classified, z1), (_, z2) = (
            outputs(one.student, p) for p in (x, weak, strong, other)
        )
        p = align(softmax(judged))
        pseudo = p
        if len(slots) == 32:
            pseudo = 0.6 * p + 0.4 * softmax(z @ slots.T / 0.3) @ stored
        mask = pseudo.max(1) >= 0.65
        graph = np.zeros((12, 12))
        for i in range(12):
            for j in range(12):
                edge = 1.0 if i == j else pseudo[i] @ pseudo[j]
                graph[i, j] = edge if edge >= 0.4 else 0
        assert 12 < (graph > 0).sum() < 144
        kept.extend(mask)
        contrast = entropy(graph / graph.sum(1, keepdims=True), softmax(z1 @ z2.T / 0.3)).mean()
        consistency = (mask * entropy(pseudo, softmax(classified))).mean()
        assert output.metrics["consistency"].item() == pytest.approx(consistency, rel=1e-5), number
        assert output.metrics["contrast"].item() == pytest.approx(contrast, rel=1e-5), number
        expected = ce(logits, target).mean() + 2 * consistency + 3 * contrast
        assert output.loss.item() == pytest.approx(expected, rel=1e-5), number
        one.after_step(STEP)
        slots = np.concatenate([slots, z, keys])[-32:]
        stored = np.concatenate([stored, p, np.eye(CLASSES)[target]])[-32:]
    assert 0 < sum(kept) < len(kept)
    order = np.r_[16:32, 0:16]  # the third batch replaced the first
    np.testing.assert_allclose(one.bank.embeddings.numpy(), slots[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.bank.classes.numpy(), stored[order], rtol=1e-4, atol=1e-5)


def test_comatchs_second_strong_view_learns_from_the_contrast_alone():
    torch.manual_seed(2)
    one = CoMatch(bank_size=32, graph_threshold=0.4, contrast_weight=0.0, **shared())
    views = [torch.randn(6, 5, requires_grad=True) for _ in range(3)]
    for weight, learns in ((0.0, False), (1.0, True)):
        one.contrast_weight = weight
        labeled = Labeled(torch.arange(2), (torch.randn(2, 5),), torch.tensor([0, 1]))
        one.training_step(labeled, Unlabeled(torch.arange(6) % IMAGES, tuple(views)), STEP).loss.backward()
        assert bool(views[2].grad.any()) == learns

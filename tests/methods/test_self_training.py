"""RegMixMatch, Noisy Student and Meta Pseudo Labels on a linear network against NumPy, and ResizeMix, frozen copies."""

import numpy as np
import pytest
import torch
from closed_forms import ce, fairness_by_hand, softmax
from small_problems import CLASSES, FACTS, Problem
from torch import nn

from meanteacher.methods import regmixmatch
from meanteacher.methods.common import resize_mix as resize_mix_module
from meanteacher.methods.common.improvement import improvement
from meanteacher.methods.common.resize_mix import draw_interval, draw_scales, resize_mix
from meanteacher.methods.common.snapshots import Snapshots
from meanteacher.methods.common.weighting import FixedThreshold, SelfAdaptiveThreshold
from meanteacher.methods.meta_pseudo_labels import MetaPseudoLabels
from meanteacher.methods.noisy_student import NoisyStudent
from meanteacher.methods.regmixmatch import RegMixMatch
from meanteacher.optim.schedules import Constant

# ResizeMix


def test_resize_mix_equals_a_loop_over_pixels(monkeypatch):
    intervals = {
        7: ([0, 2, 6], [3, 6, 6]),
        21: ([14, 0, 1], [21, 19, 4]),
    }  # by side: starts and ends; the last is empty
    monkeypatch.setattr(
        resize_mix_module, "draw_interval", lambda scale, length: tuple(torch.tensor(v) for v in intervals[length])
    )
    images, others = torch.rand(2, 3, 2, 7, 21)
    mixed, fraction = resize_mix(images, others, torch.ones(3))
    expected = images.clone()
    for image in range(3):
        (top, bottom), (left, right) = ([v[image] for v in intervals[side]] for side in (7, 21))
        for i in range(top, bottom):
            for j in range(left, right):  # the central 6 × 18 of 7 × 21 pixels
                row, column = (i - top) * 6 // (bottom - top), 1 + (j - left) * 18 // (right - left)
                expected[image, :, i, j] = others[image, :, row, column]
        assert fraction[image].item() == pytest.approx(1 - (bottom - top) * (right - left) / 147)
    assert torch.equal(mixed, expected) and fraction[2] == 1


def test_rectangles_stay_inside_and_have_the_drawn_size_in_the_middle():
    scale = draw_scales(1.0, 2000, torch.device("cpu"))
    assert 0.1 <= scale.min() < 0.13 and 0.79 < scale.max() <= 0.8
    assert scale.mean().item() == pytest.approx(0.1 + 0.7 * 2 / 3, abs=0.02)  # E √b = 2/3 for b from U(0, 1)
    start, end = draw_interval(scale, 32)
    assert start.min() == 0 and end.max() == 32 and (end >= start).all()
    inside = (start > 0) & (end < 32)
    assert torch.equal((end - start)[inside], ((scale * 32).long() // 2 * 2)[inside])


# RegMixMatch


def fake_mix(images, others, scale):
    """A fraction that tells which alpha was used; where the scale is 0, the image itself."""
    fraction = 1 / (1 + scale)
    column = fraction[:, None]
    return column * images + (1 - column) * others, fraction


@pytest.mark.parametrize(("mix_labeled", "class_aware"), [(False, 1.0), (False, 0.0), (True, 1.0)])
def test_regmixmatch_loss_equals_its_closed_form(monkeypatch, mix_labeled, class_aware):
    problem, rng = Problem(), np.random.default_rng(4)
    scores = rng.uniform(size=(16, 16))
    monkeypatch.setattr(regmixmatch, "draw_scores", lambda images, pool: torch.tensor(scores))
    monkeypatch.setattr(regmixmatch, "draw_scales", lambda alpha, count, device: torch.full((count,), alpha))
    monkeypatch.setattr(regmixmatch, "resize_mix", fake_mix)
    weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
    one = RegMixMatch(
        student=problem.student(),
        weighting=weighting,
        unlabeled_weight=2.0,
        fairness_weight=0.5,
        mix_threshold=0.9,
        mix_labeled=mix_labeled,
        high_alpha=0.5,
        low_alpha=0.25,
        class_aware=class_aware,
        mix_weight=3.0,
        low_weight=4.0,
        **FACTS,
    )
    weighting.level.fill_(0.95)
    output = problem.run(one)
    q, strong = softmax(problem.z(problem.u)), problem.z(problem.u2)
    level, running = 0.9 * 0.95 + 0.1 * q.max(1).mean(), 0.9 / CLASSES + 0.1 * q.mean(0)
    histogram = 0.9 / CLASSES + 0.1 * np.bincount(q.argmax(1), minlength=CLASSES) / 12
    mask = (q.max(1) >= level * (running / running.max())[q.argmax(1)]).astype(float)
    expected = ce(problem.z(problem.x), problem.target).mean() + 2 * (mask * ce(strong, q.argmax(1))).mean()
    expected += 0.5 * fairness_by_hand(softmax(strong), mask, running, histogram)

    images, classes = np.concatenate([problem.x, problem.u2]), np.concatenate([problem.target, q.argmax(1)])
    sure, unmixed, high, low = [True] * 4 + list(q.max(1) >= 0.9), 0, [], []
    for i in range(0 if mix_labeled else 4, 16):
        own = np.eye(CLASSES)[classes[i]] if sure[i] else q[i - 4]
        if sure[i]:
            partners = [j for j in range(16) if sure[j] and (mix_labeled or j >= 4)]
        else:
            partners = [j for j in range(16) if sure[j] and (class_aware == 0 or classes[j] == classes[i])]
        nu, j = 1.0, i
        if partners:
            nu, j = 1 / (1 + (0.5 if sure[i] else 0.25)), max(partners, key=lambda j: scores[i, j])
        unmixed += not partners
        target = nu * own + (1 - nu) * np.eye(CLASSES)[classes[j]]
        p = softmax(problem.z(nu * images[i] + (1 - nu) * images[j])[None])[0]
        if sure[i]:
            high.append(-(target * np.log(p)).sum() / 12)
        else:
            low.append(q[i - 4].max() ** 3 * ((p - target) ** 2).mean())
    assert high and len(low) > 1
    assert output.metrics["mixed_high"].item() == pytest.approx(sum(high), rel=1e-4)
    assert output.metrics["mixed_low"].item() == pytest.approx(np.mean(low), rel=1e-4)
    assert output.loss.item() == pytest.approx(expected + 3 * sum(high) + 4 * np.mean(low), rel=1e-4)
    assert problem.judge_has_no_gradient()


def test_an_unsure_image_without_a_partner_of_its_class_is_not_mixed(monkeypatch):
    problem, seen = Problem(), []
    monkeypatch.setattr(
        regmixmatch,
        "resize_mix",
        lambda images, others, scale: (seen.append(scale), fake_mix(images, others, scale))[1],
    )
    own = {"mix_threshold": 1.0, "mix_labeled": False, "class_aware": 1.0, "high_alpha": 1.0, "low_alpha": 16.0}
    weights = {"unlabeled_weight": 1.0, "fairness_weight": 0.0, "mix_weight": 1.0, "low_weight": 1.0}
    weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
    one = RegMixMatch(student=problem.student(), weighting=weighting, **own, **weights, **FACTS)
    problem.target = np.zeros(4, dtype=int)
    output = problem.run(one)
    predicted = softmax(problem.z(problem.u)).argmax(1)
    assert (seen[0][4:] > 0).tolist() == (predicted == 0).tolist() and output.metrics["mixed_high"] == 0


# Noisy Student


def test_copies_are_taken_at_the_ends_of_rounds_and_averaged():
    student = nn.Sequential(nn.Linear(5, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.5))
    copies = Snapshots(rounds=4, ensemble=2, steps=8).bind(student).train()
    images, taken = torch.randn(6, 5), []
    for step in range(8):
        q, exists = copies(images, torch.tensor(float(step)))
        assert exists == bool(taken) and not q.requires_grad
        last = taken[-2:]
        expected = sum(last) / len(last) if last else torch.zeros(6, CLASSES)
        torch.testing.assert_close(q, expected)
        with torch.no_grad():
            student[0].weight.add_(0.1 * torch.randn(CLASSES, 5))
            student.train()(images)
        copies.update(student, torch.tensor(float(step)))
        if step in (1, 3, 5):  # not after the last step, where no round follows
            taken.append(student.eval()(images).softmax(dim=1).detach())
    assert len(taken) == 3 and not any(model.training for model in copies.models)


def test_noisy_student_loss_equals_its_closed_form():
    problem = Problem()
    one = NoisyStudent(
        student=problem.student(),
        snapshots=Snapshots(rounds=4, ensemble=1, steps=100),
        weighting=FixedThreshold(threshold=0.8),
        temperature=0.5,
        unlabeled_weight=2.0,
        labeled_view="weak",
        **FACTS,
    )
    teacher = np.random.default_rng(10).normal(size=(CLASSES, 5))
    one.teachers.models[0].weight.data = torch.tensor(teacher, dtype=torch.float32)
    z = problem.u @ teacher.T
    mask, target = softmax(z).max(1) >= 0.8, softmax(z / 0.5)
    supervised = ce(problem.z(problem.x), problem.target).mean()
    consistency = (mask * -(target * np.log(softmax(problem.z(problem.u2)))).sum(1)).mean()
    assert 0 < mask.sum() < 12
    for step, factor in ((24.0, 0), (25.0, 2)):
        output = problem.run(one, torch.tensor(step))
        assert output.loss.item() == pytest.approx(supervised + factor * consistency, rel=1e-5)
        assert output.metrics["kept"].item() == pytest.approx(mask.mean() * bool(factor))
        assert problem.judge_has_no_gradient()
    one.weighting.threshold = 0.0
    assert problem.run(one, torch.tensor(24.0)).metrics["kept"] == 0, "whatever the weighting makes of no prediction"
    one.after_step(torch.tensor(48.0))
    np.testing.assert_allclose(one.teachers.models[0].weight.numpy(), teacher, rtol=1e-6)
    one.after_step(torch.tensor(49.0))
    np.testing.assert_allclose(one.teachers.models[0].weight.numpy(), problem.weights, rtol=1e-6)


# Meta Pseudo Labels


def improved(weights, points, targets, others, labels, rate):
    """`improvement` of a linear network, in NumPy."""
    gradient = (softmax(points @ weights.T) - targets).T @ points / len(points)
    return (ce(others @ weights.T, labels) - ce(others @ (weights - rate * gradient).T, labels)).mean()


def test_improvement_leaves_no_trace():
    network = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, CLASSES)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    points, others = torch.randn(2, 6, 5)
    targets, labels = torch.full((6, CLASSES), 1 / 3), torch.arange(6) % 3
    found = [improvement(network, points, targets, others, labels, rate=0.5) for _ in range(2)]
    assert found[0] == found[1] != 0 and not found[0].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_meta_pseudo_labels_loss_and_gradients_equal_their_closed_form():
    problem = Problem()
    one = MetaPseudoLabels(
        student=problem.student(),
        weighting=FixedThreshold(threshold=0.8),
        temperature=0.5,
        unlabeled_weight=2.0,
        unlabeled_ramp=Constant(steps=100, warmup=0.6, warmup_shape="linear"),
        student_rate=0.7,
        baseline_decay=0.9,
        **FACTS,
    )
    tutor = np.random.default_rng(10).normal(size=(CLASSES, 5))
    one.tutor.weight.data = torch.tensor(tutor, dtype=torch.float32)
    one.baseline.fill_(0.3)
    taught, z = problem.u2 @ tutor.T, problem.u @ tutor.T
    p, mask = softmax(taught), softmax(z).max(1) >= 0.8
    h = improved(problem.weights, problem.u2, p, problem.x, problem.target, 0.7)
    feedback = h - (0.9 * 0.3 + 0.1 * h)
    uda = (mask * -(softmax(z / 0.5) * np.log(p)).sum(1)).mean()
    student = -(p * np.log(softmax(problem.z(problem.u2)))).sum(1).mean()
    expected = ce(problem.x @ tutor.T, problem.target).mean() + 2 * 0.5 * uda
    expected += feedback * ce(taught, taught.argmax(1)).mean() + student
    output = problem.run(one)
    assert 0 < mask.sum() < 12 and abs(h) > 1e-3
    assert output.metrics["improvement"].item() == pytest.approx(h, rel=1e-3)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    assert one.baseline.item() == pytest.approx(0.9 * 0.3 + 0.1 * h, rel=1e-4) and problem.judge_has_no_gradient()
    by_hand = (softmax(problem.z(problem.u2)) - p).T @ problem.u2 / 12
    np.testing.assert_allclose(one.student.weight.grad.numpy(), by_hand, rtol=1e-3, atol=1e-6)
    own, hard = softmax(problem.x @ tutor.T) - np.eye(CLASSES)[problem.target], np.eye(CLASSES)[taught.argmax(1)]
    by_hand = (
        own.T @ problem.x / 4 + (mask[:, None] * (p - softmax(z / 0.5)) + feedback * (p - hard)).T @ problem.u2 / 12
    )
    np.testing.assert_allclose(one.tutor.weight.grad.numpy(), by_hand, rtol=1e-3, atol=1e-5)

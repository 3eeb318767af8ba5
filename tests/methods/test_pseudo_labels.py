"""The pseudo-label family against NumPy: weightings step by step, alignment, each method's loss on a linear network."""

import copy

import numpy as np
import pytest
import torch
from conftest import parsed, settings
from test_methods import STEP, apart, batches, gradient, softmax, train
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import adamatch as adamatch_module
from meanteacher.methods.adamatch import AdaMatch
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.weighting import (
    CurriculumThreshold,
    FixedThreshold,
    SelfAdaptiveThreshold,
    TruncatedGaussian,
)
from meanteacher.methods.fixmatch import FixMatch
from meanteacher.methods.freematch import FreeMatch, fairness
from meanteacher.methods.pseudo_label import PseudoLabel
from meanteacher.methods.uda import UDA
from meanteacher.optim.schedules import Constant
from meanteacher.runs.build import build, build_method

CLASSES, IMAGES = 3, 40
WITH_TABLE = {
    "curriculum": lambda: CurriculumThreshold(threshold=0.7),
    "fixed": lambda: FixedThreshold(threshold=0.7),
    "self_adaptive": lambda: SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0),
    "gaussian": lambda: TruncatedGaussian(decay=0.9, n_sigma=2.0, uniform_alignment=True, alignment_start="uniform"),
}


def f32(array):
    return torch.tensor(array, dtype=torch.float32)


def bound(weighting):
    return weighting.bind(num_classes=CLASSES, num_images=IMAGES)


def predictions(rng, n):
    return softmax(2 * rng.normal(size=(n, CLASSES)))


def ce(logits, target):
    return -np.log(softmax(logits)[np.arange(len(target)), target])


class Problem:
    """A linear network, 4 labeled points in two views and 12 unlabeled ones in three, and a method's step on them."""

    def __init__(self, seed=2):
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=(CLASSES, 5))
        self.x, self.x2 = rng.normal(size=(2, 4, 5))
        self.u, self.u2 = rng.normal(size=(2, 12, 5))
        self.target = np.array([0, 1, 2, 0])
        self.index = rng.permutation(IMAGES)[:12]
        self.u3 = rng.normal(size=(12, 5))

    def student(self):
        student = nn.Linear(5, CLASSES, bias=False)
        student.weight.data = f32(self.weights)
        return student

    def run(self, method, step=STEP):
        """The step's output; also keeps the images, so that their gradients can be asked for."""
        self.labeled = [f32(v).requires_grad_() for v in (self.x, self.x2)][: len(method.views.labeled)]
        self.unlabeled = [f32(v).requires_grad_() for v in (self.u, self.u2, self.u3)][: len(method.views.unlabeled)]
        output = method.training_step(
            Labeled(torch.arange(4), tuple(self.labeled), torch.tensor(self.target)),
            Unlabeled(torch.tensor(self.index), tuple(self.unlabeled)),
            step,
        )
        output.loss.backward()
        return output

    def judge_has_no_gradient(self):
        return self.unlabeled[0].grad is None or not self.unlabeled[0].grad.any()

    def z(self, images):
        return images @ self.weights.T


FACTS = {"num_classes": CLASSES, "num_images": IMAGES}


def fixmatch(student, weighting, judge="student"):
    teacher = Teacher(decay=0.9, warmup=False, bn="own", mode="train")
    return FixMatch(student=student, weighting=weighting, unlabeled_weight=2.0, judge=judge, teacher=teacher, **FACTS)


# the weightings


def test_a_fixed_threshold_lets_equality_pass():
    p = f32([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.4, 0.3, 0.3]])
    assert bound(FixedThreshold(threshold=0.5))(p, torch.arange(3)).tolist() == [1, 1, 0]


def test_curriculum_thresholds_equal_a_loop_over_images():
    rng = np.random.default_rng(3)
    weighting, table, seen = bound(CurriculumThreshold(threshold=0.7)), [-1] * IMAGES, set()
    for _ in range(12):
        index, p = rng.permutation(IMAGES)[:10], predictions(rng, 10)
        counts = [table.count(c) for c in range(CLASSES)]
        most = max(*counts, table.count(-1))
        expected = []
        for row in p:
            beta = counts[row.argmax()] / most
            expected.append(float(row.max() >= 0.7 * beta / (2 - beta)))
        for i, row in zip(index, p, strict=True):
            if row.max() >= 0.7:
                table[i] = int(row.argmax())
        assert weighting(f32(p), torch.tensor(index)).tolist() == expected
        assert weighting.learned.tolist() == table
        seen |= set(expected)
    assert seen == {0.0, 1.0} and -1 in table


def test_before_anything_is_learned_everything_passes():
    p = f32([[0.34, 0.33, 0.33]])
    assert bound(CurriculumThreshold(threshold=0.95))(p, torch.tensor([3])).tolist() == [1]


def test_the_table_is_by_image_not_by_place_in_the_batch():
    rng = np.random.default_rng(4)
    index, p = torch.tensor(rng.permutation(IMAGES)[:20]), f32(predictions(rng, 20))
    order = torch.randperm(20)
    whole, shuffled, halves = (bound(CurriculumThreshold(threshold=0.7)) for _ in range(3))
    weight = whole(p, index)
    assert torch.equal(weight[order], shuffled(p[order], index[order]))
    for half in order.split(10):
        halves(p[half], index[half])
    assert torch.equal(whole.learned, shuffled.learned) and torch.equal(whole.learned, halves.learned)
    written = p.amax(1) >= 0.7
    assert torch.equal(whole.learned[index], torch.where(written, p.argmax(1), -1))
    assert (whole.learned >= 0).sum() == written.sum() > 5


def test_an_image_twice_in_a_batch_is_written_alike_in_any_order():
    p = f32([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.4, 0.3, 0.3]])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        weighting = bound(CurriculumThreshold(threshold=0.7))
        weighting(p[order], torch.tensor([5, 5, 5]))
        assert weighting.learned[5] == 1 and (weighting.learned >= 0).sum() == 1
        weighting(p[2:], torch.tensor([5]))
        assert weighting.learned[5] == 1, "an unsure prediction erases nothing"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 0.6)])
def test_self_adaptive_thresholds_equal_a_loop(low, high):
    rng = np.random.default_rng(5)
    weighting = bound(SelfAdaptiveThreshold(decay=0.9, clamp_min=low, clamp_max=high))
    level, classes, histogram = 1 / CLASSES, np.full(CLASSES, 1 / CLASSES), np.full(CLASSES, 1 / CLASSES)
    kept = []
    for _ in range(8):
        p = predictions(rng, 10)
        level = 0.9 * level + 0.1 * p.max(1).mean()
        classes = 0.9 * classes + 0.1 * p.mean(0)
        histogram = 0.9 * histogram + 0.1 * np.array([(p.argmax(1) == c).mean() for c in range(CLASSES)])
        thresholds = min(max(level, low), high) * classes / classes.max()
        expected = [float(row.max() >= thresholds[row.argmax()]) for row in p]
        assert weighting(f32(p), torch.arange(10)).tolist() == expected
        np.testing.assert_allclose(weighting.level.item(), level, rtol=1e-5)
        np.testing.assert_allclose(weighting.classes.numpy(), classes, rtol=1e-5)
        np.testing.assert_allclose(weighting.histogram.numpy(), histogram, rtol=1e-5)
        kept += expected
    assert set(kept) == {0.0, 1.0}


@pytest.mark.parametrize("aligned", [True, False])
def test_gaussian_weights_equal_a_loop(aligned):
    rng = np.random.default_rng(6)
    weighting = bound(TruncatedGaussian(decay=0.9, n_sigma=2.0, uniform_alignment=aligned, alignment_start="uniform"))
    mean, variance, model = 1 / CLASSES, 1.0, np.full(CLASSES, 1 / CLASSES)
    for _ in range(8):
        p = predictions(rng, 10)
        if aligned:
            model = 0.9 * model + 0.1 * p.mean(0)
            p_hat = p / CLASSES / model
            p_hat /= p_hat.sum(1, keepdims=True)
        else:
            p_hat = p
        m = p_hat.max(1)
        mean, variance = 0.9 * mean + 0.1 * m.mean(), 0.9 * variance + 0.1 * m.var(ddof=1)
        expected = [np.exp(-(min(v - mean, 0) ** 2) * 4 / (2 * variance)) for v in m]
        np.testing.assert_allclose(weighting(f32(p), torch.arange(10)).numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(weighting.mean.item(), mean, rtol=1e-5)
    np.testing.assert_allclose(weighting.variance.item(), variance, rtol=1e-4)
    assert 0 < min(expected) < 0.99 and max(expected) == 1


def test_a_batch_of_one_image_has_a_finite_weight():
    weighting = bound(TruncatedGaussian(decay=0.0, n_sigma=2.0, uniform_alignment=False, alignment_start="uniform"))
    assert weighting(f32([[0.5, 0.3, 0.2]]), torch.tensor([0])).tolist() == [1]


@pytest.mark.parametrize("name", WITH_TABLE)
def test_weights_are_of_the_image_whatever_its_place(name):
    rng = np.random.default_rng(7)
    index, p = torch.tensor(rng.permutation(IMAGES)[:20]), f32(predictions(rng, 20))
    one, two = bound(WITH_TABLE[name]()), bound(WITH_TABLE[name]())
    order = torch.randperm(20)
    for _ in range(2):
        weight = one(p, index)
        torch.testing.assert_close(weight[order], two(p[order], index[order]))
    assert weight.dtype == torch.float32 and weight.min() >= 0 and weight.max() <= 1


# alignment


def test_alignment_equals_a_loop_with_and_without_labeled_predictions():
    rng = np.random.default_rng(8)
    to_labeled, to_uniform = (
        DistributionAlignment(decay=0.9, start="uniform").bind(num_classes=CLASSES) for _ in range(2)
    )
    model, target = np.full(CLASSES, 1 / CLASSES), np.full(CLASSES, 1 / CLASSES)
    for _ in range(5):
        p, labeled = predictions(rng, 10), predictions(rng, 4)
        model, target = 0.9 * model + 0.1 * p.mean(0), 0.9 * target + 0.1 * labeled.mean(0)
        for goal, found in ((target, to_labeled(f32(p), f32(labeled))), (1 / CLASSES, to_uniform(f32(p), None))):
            expected = p * goal / model
            expected /= expected.sum(1, keepdims=True)
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_alignment_without_memory_moves_the_marginal_to_the_target():
    rng = np.random.default_rng(9)
    p = softmax(rng.normal(size=(200, CLASSES)) + [1.0, 0, 0])
    aligned = DistributionAlignment(decay=0.0, start="uniform").bind(num_classes=CLASSES)(f32(p), None).mean(0)
    assert abs(aligned - 1 / CLASSES).max() < 0.3 * abs(p.mean(0) - 1 / CLASSES).max()


# FixMatch and its relatives


def test_fixmatch_loss_equals_its_closed_form():
    problem = Problem()
    output = problem.run(fixmatch(problem.student(), FixedThreshold(threshold=0.8)))
    q = softmax(problem.z(problem.u))
    mask = q.max(1) >= 0.8
    assert 0 < mask.sum() < 12
    supervised = ce(problem.z(problem.x), problem.target).mean()
    strong = (mask * ce(problem.z(problem.u2), q.argmax(1))).sum() / 12
    assert output.loss.item() == pytest.approx(supervised + 2 * strong, rel=1e-5)
    assert output.metrics["kept"].item() == pytest.approx(mask.mean())
    assert problem.judge_has_no_gradient(), "the pseudo-label carries no gradient"


def test_fixmatch_without_a_confident_image_is_supervised():
    one = fixmatch(nn.Linear(5, 3, bias=False), FixedThreshold(threshold=1.0))
    labeled = Labeled(torch.arange(2), (torch.randn(2, 5),), torch.tensor([0, 1]))
    output = one.training_step(labeled, Unlabeled(torch.arange(4), (torch.randn(4, 5), torch.randn(4, 5))), STEP)
    assert output.metrics["consistency"].item() == 0 and output.loss.item() == output.metrics["supervised"].item()


def test_softmatch_weighs_the_unaligned_pseudo_label_by_the_aligned_confidence():
    problem = Problem()
    weighting = TruncatedGaussian(decay=0.5, n_sigma=2.0, uniform_alignment=True, alignment_start="uniform")
    output = problem.run(fixmatch(problem.student(), weighting))
    q = softmax(problem.z(problem.u))
    aligned = q / CLASSES / (0.5 / CLASSES + 0.5 * q.mean(0))
    aligned /= aligned.sum(1, keepdims=True)
    assert (aligned.argmax(1) != q.argmax(1)).any(), "else the test would not see which one gives the label"
    m = aligned.max(1)
    mean, variance = 0.5 / CLASSES + 0.5 * m.mean(), 0.5 + 0.5 * m.var(ddof=1)
    weight = np.exp(-(np.minimum(m - mean, 0) ** 2) * 4 / (2 * variance))
    strong = (weight * ce(problem.z(problem.u2), q.argmax(1))).mean()
    assert output.loss.item() == pytest.approx(ce(problem.z(problem.x), problem.target).mean() + 2 * strong, rel=1e-4)
    assert problem.judge_has_no_gradient()


def test_flexmatch_counts_by_the_batchs_index():
    problem = Problem()
    one = fixmatch(problem.student(), CurriculumThreshold(threshold=0.8))
    assert problem.run(one).metrics["kept"] == 1
    q = softmax(problem.z(problem.u))
    expected = np.full(IMAGES, -1)
    expected[problem.index] = np.where(q.max(1) >= 0.8, q.argmax(1), -1)
    assert one.weighting.learned.tolist() == expected.tolist()


def test_an_average_judges_the_weak_view_where_it_is_the_teacher():
    problem = Problem()
    one = fixmatch(problem.student(), FixedThreshold(threshold=0.8), judge="ema")
    teacher = np.random.default_rng(10).normal(size=(CLASSES, 5))
    one.teacher.model.weight.data = f32(teacher)
    output = problem.run(one)
    q = softmax(problem.u @ teacher.T)
    mask = q.max(1) >= 0.8
    strong = (mask * ce(problem.z(problem.u2), q.argmax(1))).mean()
    assert 0 < mask.sum() < 12
    assert output.loss.item() == pytest.approx(ce(problem.z(problem.x), problem.target).mean() + 2 * strong, rel=1e-5)
    assert problem.judge_has_no_gradient()
    assert list(one.eval_models()) == ["student", "teacher"] and one.teacher.model.weight.grad is None
    one.after_step(torch.tensor(0.0))
    np.testing.assert_allclose(one.teacher.model.weight.numpy(), 0.9 * teacher + 0.1 * problem.weights, rtol=1e-4)


def test_the_averaged_judge_keeps_the_contract(blobs, tmp_path):
    def made(*changes):
        torch.manual_seed(0)
        chosen = ("method=fixmatch", "method.judge=ema", "model=wrn_10_1", "steps=100", *changes)
        return build_method(parsed(*chosen), blobs).train()

    one, two = train(made(), blobs, 4), made()
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for model in (one, two):
        train(model, blobs, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.student.parameters(), one.teacher.parameters(), strict=True))
    _, after = gradient(apart(one), *batches(one, blobs))
    assert all(p.grad is None and not p.requires_grad for p in after.teacher.parameters())
    calm = made("method.teacher.mode=eval", "method.teacher.bn=average").train()
    assert (
        calm.training
        and not calm.teacher.model.training
        and one.teacher.model.training
        and not one.eval().teacher.training
    )
    with pytest.raises(UserError, match="teacher.bn=own"):
        made("method.teacher.mode=eval")


def test_the_averaged_judge_is_compiled_whole():
    one = fixmatch(Problem().student(), CurriculumThreshold(threshold=0.7), judge="ema")
    two, problem = copy.deepcopy(one), Problem()
    two.training_step = torch.compile(two.training_step, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        eager, compiled = problem.run(one), problem.run(two)
        torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-5, atol=1e-6)
    assert torch.equal(one.weighting.learned, two.weighting.learned)


# FreeMatch


def fairness_by_hand(p, weight, classes, histogram):
    keep = weight > 0
    counts = np.bincount(p[keep].argmax(1), minlength=p.shape[1]) / keep.sum()
    a = classes / histogram
    b = np.array([m / c if c else 0 for m, c in zip(p[keep].mean(0), counts, strict=True)])
    a, b = a / a.sum(), b / b.sum()
    return sum(x * np.log(y) for x, y in zip(a, b, strict=True) if y)


@pytest.mark.parametrize("empty", [False, True])
def test_fairness_equals_its_closed_form(empty):
    rng = np.random.default_rng(11)
    logits, weight = rng.normal(size=(12, CLASSES)) - ([0, 0, 9] if empty else [0, 0, 0]), rng.integers(0, 2, 12)
    classes, histogram = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.3, 0.1])
    expected = fairness_by_hand(softmax(logits), weight, classes, histogram)
    found = fairness(f32(logits), f32(weight), f32(classes), f32(histogram))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_fairness_is_0_with_no_gradient_where_no_image_passes():
    logits = torch.randn(6, CLASSES, requires_grad=True)
    uniform = torch.full((CLASSES,), 1 / CLASSES)
    found = fairness(logits, torch.zeros(6), uniform, uniform)
    found.backward()
    assert found.item() == 0 and not logits.grad.any()


def test_minimizing_the_fairness_term_makes_the_mean_prediction_fairer():
    logits = np.array([[2.0, 0, 0]] * 6 + [[0, 1.5, 0], [0, 0, 1.0]])  # argmax: 6 times class 0, once 1, once 2
    uniform = np.full(CLASSES, 1 / CLASSES)
    weight = np.ones(len(logits))
    numeric = np.zeros_like(logits)
    for at in np.ndindex(*logits.shape):
        for sign in (1, -1):
            moved = logits.copy()
            moved[at] += sign * 1e-5
            numeric[at] += sign * fairness_by_hand(softmax(moved), weight, uniform, uniform) / 2e-5
    z = f32(logits).requires_grad_()
    fairness(z, f32(weight), f32(uniform), f32(uniform)).backward()
    np.testing.assert_allclose(z.grad.numpy(), numeric, rtol=1e-3, atol=1e-6)

    def entropy(p):
        return -(p * np.log(p)).sum()

    before, after, opposite = (softmax(logits - rate * numeric).mean(0) for rate in (0, 0.5, -0.5))
    assert after[0] < before[0] and entropy(after) > entropy(before) > entropy(opposite)


def test_freematch_loss_equals_its_closed_form():
    problem = Problem()
    weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
    one = FreeMatch(student=problem.student(), weighting=weighting, unlabeled_weight=2.0, fairness_weight=0.5, **FACTS)
    weighting.level.fill_(0.95)
    q, strong = softmax(problem.z(problem.u)), problem.z(problem.u2)
    level = 0.9 * 0.95 + 0.1 * q.max(1).mean()
    classes = 0.9 / CLASSES + 0.1 * q.mean(0)
    histogram = 0.9 / CLASSES + 0.1 * np.bincount(q.argmax(1), minlength=CLASSES) / 12
    mask = (q.max(1) >= level * (classes / classes.max())[q.argmax(1)]).astype(float)
    output = problem.run(one)
    assert 0 < mask.sum() < 12
    expected = ce(problem.z(problem.x), problem.target).mean() + 2 * (mask * ce(strong, q.argmax(1))).mean()
    expected += 0.5 * fairness_by_hand(softmax(strong), mask, classes, histogram)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert problem.judge_has_no_gradient()


def test_freematchs_strong_views_learn_from_the_fairness_term():
    problem, gradients = Problem(), []
    for factor in (0.0, 0.5):
        weighting = SelfAdaptiveThreshold(decay=0.9, clamp_min=0.0, clamp_max=1.0)
        one = FreeMatch(
            student=problem.student(), weighting=weighting, unlabeled_weight=2.0, fairness_weight=factor, **FACTS
        )
        assert problem.run(one).metrics["kept"] == 1
        gradients.append(problem.unlabeled[1].grad)
    strong = f32(problem.u2).requires_grad_()
    logits = strong @ f32(problem.weights).T
    fairness(logits, torch.ones(12), weighting.classes, weighting.histogram).backward()
    torch.testing.assert_close(gradients[1] - gradients[0], 0.5 * strong.grad, rtol=1e-3, atol=1e-5)
    assert strong.grad.abs().max() > 1e-3


def test_freematch_needs_the_self_adaptive_threshold():
    with pytest.raises(UserError, match="SelfAdaptiveThreshold"):
        FreeMatch(
            student=Problem().student(),
            weighting=FixedThreshold(threshold=0.9),
            unlabeled_weight=1.0,
            fairness_weight=1.0,
            **FACTS,
        )


# Pseudo-Label, UDA, AdaMatch


@pytest.mark.parametrize("passes", ["together", "separate"])
def test_pseudo_label_loss_and_gradient_equal_their_closed_form(passes):
    problem = Problem()
    one = PseudoLabel(
        student=problem.student(),
        weighting=FixedThreshold(threshold=0.8),
        unlabeled_weight=2.0,
        unlabeled_ramp=Constant(steps=100, warmup=0.4, warmup_shape="linear"),
        passes=passes,
        **FACTS,
    )
    output = problem.run(one)
    p = softmax(problem.z(problem.u))
    mask, hard = p.max(1) >= 0.8, np.eye(CLASSES)[p.argmax(1)]
    expected = ce(problem.z(problem.x), problem.target).mean()
    expected += 2 * 0.75 * (mask * ce(problem.z(problem.u), p.argmax(1))).mean()
    assert 0 < mask.sum() < 12 and output.loss.item() == pytest.approx(expected, rel=1e-5)
    by_hand = 1.5 * mask[:, None] / 12 * (p - hard) @ problem.weights
    np.testing.assert_allclose(problem.unlabeled[0].grad.numpy(), by_hand, rtol=1e-3, atol=1e-6)


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
        assert threshold == 1, "not a rounding below it: a certain image must be kept"


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
    assert 0 < mask.sum() < (sharp.max(1) >= 0.8).sum(), "else the test would not see which one is judged"
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


def adamatch(student, **changes):
    keys = {
        "threshold": 0.9,
        "unlabeled_weight": 2.0,
        "unlabeled_ramp": Constant(steps=100, warmup=0.5, warmup_shape="cosine"),
    } | changes
    return AdaMatch(
        student=student, num_classes=CLASSES, alignment=DistributionAlignment(decay=0.5, start="uniform"), **keys
    )


class Norm(nn.Module):
    """Batch normalization of the points, then a linear map: what AdaMatch's two passes differ in."""

    def __init__(self, linear):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(5, affine=False), linear

    def forward(self, points):
        return self.linear(self.norm(points))


def test_adamatch_loss_equals_its_closed_form(monkeypatch):
    problem = Problem()
    problem.x += 0.5
    draws = np.random.default_rng(12).uniform(size=(8, CLASSES))
    monkeypatch.setattr(adamatch_module, "draw_fractions", lambda logits: f32(draws))
    student = Norm(problem.student())
    output = problem.run(adamatch(student))

    def logits(points):
        return (points - points.mean(0)) / np.sqrt(points.var(0) + 1e-5) @ problem.weights.T

    everything = np.concatenate([problem.x, problem.x2, problem.u, problem.u2])
    joint = logits(everything)
    together, weak, strong = joint[:8], joint[8:20], joint[20:]
    alone = logits(np.concatenate([problem.x, problem.x2]))
    z = (1 - draws) * together + draws * alone
    p_x, p_u = softmax(z[:4]), softmax(weak)
    q = p_u * (0.5 / CLASSES + 0.5 * p_x.mean(0)) / (0.5 / CLASSES + 0.5 * p_u.mean(0))
    q /= q.sum(1, keepdims=True)
    assert (q.argmax(1) != p_u.argmax(1)).any() or (q.max(1) - p_u.max(1)).std() > 1e-3
    threshold = 0.9 * p_x.max(1).mean()
    mask = q.max(1) >= threshold
    assert 0 < mask.sum() < 12
    supervised = (ce(z[:4], problem.target).mean() + ce(z[4:], problem.target).mean()) / 2
    ramp = 0.5 - np.cos(min(np.pi, 2 * np.pi * 30 / 100)) / 2
    expected = supervised + 2 * ramp * (mask * ce(strong, q.argmax(1))).mean()
    assert output.metrics["threshold"].item() == pytest.approx(threshold, rel=1e-4)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(student.norm.running_mean.numpy(), 0.1 * everything.mean(0), rtol=1e-4, atol=1e-6)
    assert student.norm.num_batches_tracked == 1, "the labeled images' own pass leaves no statistics"


def test_adamatch_pseudo_labels_carry_no_gradient():
    problem = Problem()
    problem.run(adamatch(problem.student()))
    assert problem.judge_has_no_gradient() and problem.unlabeled[1].grad.any()


def test_adamatch_interpolates_each_logit_anew():
    problem = Problem()
    one = adamatch(Norm(problem.student()))
    losses = [problem.run(copy.deepcopy(one)).metrics["supervised"].item() for _ in range(2)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("step", "factor"), [(0, 0), (10, (1 - np.cos(0.2 * np.pi)) / 2), (25, 0.5), (50, 1), (80, 1)])
def test_adamatchs_weight_rises_as_a_cosine_over_half_of_the_run(step, factor):
    node = settings("method=adamatch", "steps=100")["method"]["unlabeled_ramp"]
    ramp = build(node)
    assert ramp(torch.tensor(float(step))).item() == pytest.approx(factor, abs=1e-6)

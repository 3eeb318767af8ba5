"""FixMatch, SoftMatch and FlexMatch against NumPy on a linear network, and FixMatch with an average as the judge."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import ce, f32, softmax
from conftest import parsed
from small_problems import CLASSES, FACTS, IMAGES, STEP, Problem
from test_methods import apart, batches, gradient, train
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.weighting import CurriculumThreshold, FixedThreshold, TruncatedGaussian
from meanteacher.methods.fixmatch import FixMatch
from meanteacher.runs.build import build_method


def fixmatch(student, weighting, judge="student"):
    teacher = Teacher(decay=0.9, warmup=False, bn="own", mode="train")
    return FixMatch(student=student, weighting=weighting, unlabeled_weight=2.0, judge=judge, teacher=teacher, **FACTS)


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
    method = fixmatch(nn.Linear(5, 3, bias=False), FixedThreshold(threshold=1.0))
    labeled = Labeled(torch.arange(2), (torch.randn(2, 5),), torch.tensor([0, 1]))
    output = method.training_step(labeled, Unlabeled(torch.arange(4), (torch.randn(4, 5), torch.randn(4, 5))), STEP)
    assert output.metrics["consistency"].item() == 0 and output.loss.item() == output.metrics["supervised"].item()


def test_softmatch_weighs_the_unaligned_pseudo_label_by_the_aligned_confidence():
    problem = Problem()
    weighting = TruncatedGaussian(decay=0.5, n_sigma=2.0, uniform_alignment=True, alignment_start="uniform")
    output = problem.run(fixmatch(problem.student(), weighting))
    q = softmax(problem.z(problem.u))
    aligned = q / CLASSES / (0.5 / CLASSES + 0.5 * q.mean(0))
    aligned /= aligned.sum(1, keepdims=True)
    assert (aligned.argmax(1) != q.argmax(1)).any(), "otherwise the test would not notice which of them gives the label"
    m = aligned.max(1)
    mean, variance = 0.5 / CLASSES + 0.5 * m.mean(), 0.5 + 0.5 * m.var(ddof=1)
    weight = np.exp(-(np.minimum(m - mean, 0) ** 2) * 4 / (2 * variance))
    strong = (weight * ce(problem.z(problem.u2), q.argmax(1))).mean()
    assert output.loss.item() == pytest.approx(ce(problem.z(problem.x), problem.target).mean() + 2 * strong, rel=1e-4)
    assert problem.judge_has_no_gradient()


def test_flexmatch_counts_by_the_batchs_index():
    problem = Problem()
    method = fixmatch(problem.student(), CurriculumThreshold(threshold=0.8))
    assert problem.run(method).metrics["kept"] == 1
    q = softmax(problem.z(problem.u))
    expected = np.full(IMAGES, -1)
    expected[problem.index] = np.where(q.max(1) >= 0.8, q.argmax(1), -1)
    assert method.weighting.learned.tolist() == expected.tolist()


def test_an_average_judges_the_weak_view_where_it_is_the_teacher():
    problem = Problem()
    method = fixmatch(problem.student(), FixedThreshold(threshold=0.8), judge="ema")
    teacher = np.random.default_rng(10).normal(size=(CLASSES, 5))
    method.teacher.model.weight.data = f32(teacher)
    output = problem.run(method)
    q = softmax(problem.u @ teacher.T)
    mask = q.max(1) >= 0.8
    strong = (mask * ce(problem.z(problem.u2), q.argmax(1))).mean()
    assert 0 < mask.sum() < 12
    assert output.loss.item() == pytest.approx(ce(problem.z(problem.x), problem.target).mean() + 2 * strong, rel=1e-5)
    assert problem.judge_has_no_gradient()
    assert list(method.eval_models()) == ["student", "teacher"] and method.teacher.model.weight.grad is None
    method.after_step(torch.tensor(0.0))
    np.testing.assert_allclose(method.teacher.model.weight.numpy(), 0.9 * teacher + 0.1 * problem.weights, rtol=1e-4)


def test_the_averaged_judge_keeps_the_contract(blobs, tmp_path):
    def build_with(*changes):
        torch.manual_seed(0)
        chosen = ("method=fixmatch", "method.judge=ema", "model=wrn_10_1", "steps=100", *changes)
        return build_method(parsed(*chosen), blobs).train()

    method, restored = train(build_with(), blobs, 4), build_with()
    torch.save(method.state_dict(), tmp_path / "state.pt")
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for model in (method, restored):
        train(model, blobs, 2)
    assert all(
        torch.equal(a, b) for a, b in zip(method.state_dict().values(), restored.state_dict().values(), strict=True)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(method.student.parameters(), method.teacher.parameters(), strict=True)
    )
    _, after = gradient(apart(method), *batches(method, blobs))
    assert all(p.grad is None and not p.requires_grad for p in after.teacher.parameters())
    with_eval_teacher = build_with("method.teacher.mode=eval", "method.teacher.bn=average").train()
    assert (
        with_eval_teacher.training
        and not with_eval_teacher.teacher.model.training
        and method.teacher.model.training
        and not method.eval().teacher.training
    )
    with pytest.raises(UserError, match="teacher.bn=own"):
        build_with("method.teacher.mode=eval")


def test_the_averaged_judge_is_compiled_whole():
    method = fixmatch(Problem().student(), CurriculumThreshold(threshold=0.7), judge="ema")
    compiled_method, problem = copy.deepcopy(method), Problem()
    compiled_method.training_step = torch.compile(compiled_method.training_step, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        eager, compiled = problem.run(method), problem.run(compiled_method)
        torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-5, atol=1e-6)
    assert torch.equal(method.weighting.learned, compiled_method.weighting.learned)

"""Training steps: compiled and eager ones agree, and updates happen when they should, at the right learning rate."""

import copy

import pytest
import torch
from conftest import options
from small_steps import open_step

from meanteacher.training import device


@pytest.mark.parametrize("method", options("method"))
def test_a_compiled_loss_equals_the_eager_loss(method, tmp_path):
    same = (f"method={method}", "trainer.precision=fp32", "model.dropout=0.3")
    device.prepare(torch.device("cpu"), compiled=True)
    with open_step(tmp_path / "run", *same) as train_step:
        eager = train_step.loss_and_metrics
        compiled = torch.compile(eager, fullgraph=train_step.method.fullgraph, backend="aot_eager")
        labeled, unlabeled = train_step.batches.views(*train_step.batches.draw(3), train_step.method.views)
        losses, state = [], copy.deepcopy(train_step.method.state_dict())
        for step_function in (eager, compiled):
            train_step.method.load_state_dict(state)
            torch.manual_seed(0)
            losses.append(step_function(labeled, unlabeled, torch.tensor(3.0))[0])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", options("method"))
def test_compiled_steps_equal_eager_steps(method, tmp_path):
    """Each step starts from the same weights: in an untrained network, rounding errors grow tenfold per step.

    The activation is smooth: a rounding error at the kink of LeakyReLU changes a gradient by more than the tolerance.
    """
    same = (f"method={method}", "trainer.precision=fp32", "model.activation=mish")
    with open_step(tmp_path / "eager", *same, "trainer.compile=never") as eager:
        states = [copy.deepcopy(eager.method.state_dict())]
        for k in range(3):
            eager(k)
            states.append(copy.deepcopy(eager.method.state_dict()))
    with open_step(tmp_path / "compiled", *same, "trainer.compile=always") as compiled:
        for k in range(3):
            compiled.method.load_state_dict(states[k])
            compiled(k)
            for name, value in compiled.method.state_dict().items():
                torch.testing.assert_close(value, states[k + 1][name], rtol=1e-3, atol=3e-4)


def test_the_teacher_follows_the_student_after_the_optimizer_step(tmp_path):
    with open_step(tmp_path / "run", "method=mean_teacher", "optimizer.lr=0.1") as train_step:
        before = train_step.method.student.classifier.weight.detach().clone()
        train_step(0)
        student, teacher = (
            train_step.method.student.classifier.weight,
            train_step.method.teacher.model.classifier.weight,
        )
    assert not torch.equal(student, before)
    torch.testing.assert_close(teacher, (before + student) / 2)


@pytest.mark.parametrize("method", options("method"))
def test_the_sums_of_metrics_keep_no_graph(method, tmp_path):
    with open_step(tmp_path / "run", f"method={method}") as train_step:
        train_step(0)
        assert not any(total.requires_grad for total in train_step.meter.sums.values())


def test_the_learning_rate_is_set_by_the_schedule(tmp_path):
    with open_step(tmp_path / "run", "steps=4", "schedule=cosine", "optimizer.lr=0.1") as train_step:
        for k, expected in enumerate((1, 0.8535534, 0.5, 0.1464466)):
            train_step(k)
            for group in train_step.optimizer.param_groups:
                assert group["lr"].item() == pytest.approx(0.1 * expected)


def test_the_augmentation_is_a_function_of_the_step(tmp_path):
    with open_step(tmp_path / "run") as train_step:
        images, drawn = train_step.batches.draw(3), []
        for number in (3, 4, 3):
            train_step.batches.draw(number)  # seeds the views
            drawn.append(train_step.batches.views(*images, train_step.method.views)[1].views)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))

"""Schedules at the start, the middle and the end of a run, against their closed forms."""

import math

import pytest
import torch

from meanteacher.optim import Constant, Cosine, Cosine716, CosineSpan, Poly, RampDown

BASE = {"steps": 100, "warmup": 0.0, "warmup_shape": "linear"}


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [
        (Constant(**BASE), 1, 1, 1),
        (Cosine(**BASE), 1, 0.5, 0),
        (CosineSpan(**BASE, start=0.0, length=1.0), 1, 0.5, 0),
        (CosineSpan(**BASE, start=0.0, length=2.0), 1, (1 + math.cos(math.pi / 4)) / 2, 0.5),
        (CosineSpan(**BASE, start=0.25, length=0.5), 1, 0.5, 0),
        (Cosine716(**BASE), 1, math.cos(7 * math.pi / 32), math.cos(7 * math.pi / 16)),
        (Poly(**BASE, power=2.0), 1, 0.25, 0),
        (RampDown(**BASE, length=0.5), 1, 1, math.exp(-12.5)),
        (RampDown(**BASE, length=1.0), 1, math.exp(-12.5 / 4), math.exp(-12.5)),
        (RampDown(**BASE, length=0.0), 1, 1, 1),
    ],
)
def test_schedule_has_the_closed_form_at_start_middle_and_end(schedule, start, middle, end):
    assert [schedule(step).item() for step in (0, 50, 100)] == pytest.approx([start, middle, end], abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "at_zero", "at_half"), [("linear", 0, 0.5), ("sigmoid", math.exp(-5), math.exp(-1.25))]
)
def test_warm_up_multiplies_the_schedule(shape, at_zero, at_half):
    warm = Cosine(steps=100, warmup=0.4, warmup_shape=shape)
    plain = Cosine(**BASE)
    assert warm(0).item() == pytest.approx(at_zero)
    assert warm(20).item() == pytest.approx(at_half * plain(20).item())
    assert [warm(step).item() for step in (40, 70, 100)] == pytest.approx(
        [plain(step).item() for step in (40, 70, 100)]
    )


def test_factor_of_a_tensor_step_is_a_zero_dim_float32_tensor():
    value = Cosine(**BASE)(torch.full((), 25.0))
    assert value.shape == () and value.dtype == torch.float32

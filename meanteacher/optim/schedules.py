"""Schedules: functions of the training step that return a factor for a learning rate or a loss weight.

`step` is a 0-dim tensor on any device, or a number. The factor is a 0-dim float32 tensor on the same device, so that
computing it needs no host synchronization. Every schedule can begin with a warm-up: a second factor that rises to 1
over the first `warmup` fraction of the run. All lengths are fractions of the run, so a recipe keeps its shape when
`steps` changes.

PyTorch's `lr_scheduler` is not used: it computes the learning rate on the host, where a CUDA graph cannot follow it.
"""

import math

import torch
from torch import Tensor

from meanteacher.config.types import Fraction, PositiveFloat, PositiveInt, Warmup


def linear_up(x: Tensor) -> Tensor:
    """Linear rise: x, from 0 at x = 0 to 1 at x = 1."""
    return x.clamp(0, 1)


def sigmoid_up(x: Tensor) -> Tensor:
    """Sigmoid-shaped rise: e^{−5(1−x)²}, from e^{−5} at x = 0 to 1 at x = 1 (Laine & Aila 2017)."""
    return torch.exp(-5 * (1 - x.clamp(0, 1)).square())


def cosine_up(x: Tensor) -> Tensor:
    """Cosine-shaped rise: ½(1 − cos πx), from 0 at x = 0 to 1 at x = 1 (AdaMatch, arXiv 2106.04732)."""
    return (1 - torch.cos(math.pi * x.clamp(0, 1))) / 2


WARMUP = {"linear": linear_up, "sigmoid": sigmoid_up, "cosine": cosine_up}
"""The function of each `warmup_shape`."""


class Constant:
    """Constant factor of 1, and the base class of the other schedules, which override `shape`.

    steps: the length of the run.
    warmup: the fraction of the run in which the warm-up factor rises; 0 for no warm-up.
    warmup_shape: the shape of that rise: linear, sigmoid or cosine.
    """

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup):
        self.steps, self.warmup, self.warmup_shape = steps, warmup, warmup_shape

    def __call__(self, step: Tensor | float) -> Tensor:
        """Return the factor at a step. step: 0-dim tensor or number, from 0 to `steps`."""
        x = torch.as_tensor(step, dtype=torch.float32) / self.steps
        factor = self.shape(x)
        return factor * WARMUP[self.warmup_shape](x / self.warmup) if self.warmup else factor

    def shape(self, x: Tensor) -> Tensor:
        """Return the factor without warm-up. x: the fraction of the run that is completed, 0 to 1."""
        return torch.ones_like(x)


class Cosine(Constant):
    """Cosine decay to zero: ½(1 + cos πx), from 1 to 0 (one period of SGDR, Loshchilov & Hutter 2017)."""

    def shape(self, x: Tensor) -> Tensor:
        return (1 + torch.cos(math.pi * x)) / 2


class CosineSpan(Constant):
    """Cosine decay over a span of the run: 1 up to `start`, then ½(1 + cos πu), then 0.

    u rises linearly from 0 to 1 over `length` from `start` on, both as fractions of the run. A span that ends after the
    run, start + length > 1, keeps the factor above 0: Tarvainen & Valpola (2017) decay over 350 epochs and train 300.
    """

    def __init__(
        self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup, start: Fraction, length: PositiveFloat
    ):
        super().__init__(steps=steps, warmup=warmup, warmup_shape=warmup_shape)
        self.start, self.length = start, length

    def shape(self, x: Tensor) -> Tensor:
        u = ((x - self.start) / self.length).clamp(0, 1)
        return (1 + torch.cos(math.pi * u)) / 2


class Cosine716(Constant):
    """Cosine decay of FixMatch: cos(7πx/16), from 1 to about 0.195 (arXiv 2001.07685, section 2.4)."""

    def shape(self, x: Tensor) -> Tensor:
        return torch.cos(7 * math.pi / 16 * x)


class Poly(Constant):
    """Polynomial decay: (1 − x)^power, from 1 to 0."""

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup, power: PositiveFloat):
        super().__init__(steps=steps, warmup=warmup, warmup_shape=warmup_shape)
        self.power = power

    def shape(self, x: Tensor) -> Tensor:
        return (1 - x).clamp(min=0) ** self.power


class RampDown(Constant):
    """Ramp-down at the end of the run: 1, then e^{−12.5u²} (the code of Laine & Aila 2017).

    u rises linearly from 0 to 1 over the last `length` fraction of the run. length: 0 for no ramp-down.
    """

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup, length: Fraction):
        super().__init__(steps=steps, warmup=warmup, warmup_shape=warmup_shape)
        self.length = length

    def shape(self, x: Tensor) -> Tensor:
        if not self.length:
            return torch.ones_like(x)
        u = ((x - (1 - self.length)) / self.length).clamp(0, 1)
        return torch.exp(-12.5 * u.square())

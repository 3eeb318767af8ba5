"""Schedules: factors of a learning rate or a loss weight, as pure functions of the step.

`step` is a 0-dim tensor on any device, or a number; the factor is a 0-dim float32 tensor on the same device, without host–device
synchronization. A warm-up multiplies every schedule by a factor that rises over the first `warmup` fraction of the run. Lengths
are fractions of the run, so a recipe keeps its shape when `steps` changes.

torch.optim.lr_scheduler is not used: it keeps the step on the host, which a CUDA graph cannot replay.
"""

import math

import torch
from torch import Tensor

from meanteacher.config.types import Fraction, PositiveFloat, PositiveInt, Warmup


def linear_up(x: Tensor) -> Tensor:
    """0 at x = 0, 1 at x = 1."""
    return x.clamp(0, 1)


def sigmoid_up(x: Tensor) -> Tensor:
    """e^{−5(1−x)²}: e^{−5} at x = 0, 1 at x = 1 (Laine & Aila 2017; used by Mean Teacher)."""
    return torch.exp(-5 * (1 - x.clamp(0, 1)).square())


def cosine_up(x: Tensor) -> Tensor:
    """½(1 − cos πx): 0 at x = 0, 1 at x = 1 (AdaMatch, arXiv 2106.04732)."""
    return (1 - torch.cos(math.pi * x.clamp(0, 1))) / 2


WARMUP = {"linear": linear_up, "sigmoid": sigmoid_up, "cosine": cosine_up}


class Constant:
    """1 throughout the run. The base of the other schedules, which override `shape`.

    steps: length of the run; warmup: fraction of the run; warmup_shape: see `WARMUP`.
    """

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup):
        self.steps, self.warmup, self.warmup_shape = steps, warmup, warmup_shape

    def __call__(self, step: Tensor | float) -> Tensor:
        x = torch.as_tensor(step, dtype=torch.float32) / self.steps
        factor = self.shape(x)
        return factor * WARMUP[self.warmup_shape](x / self.warmup) if self.warmup else factor

    def shape(self, x: Tensor) -> Tensor:
        """The factor without warm-up. x: fraction of the run that is done, 0-dim float32."""
        return torch.ones_like(x)


class Cosine(Constant):
    """½(1 + cos πx): from 1 to 0 (Loshchilov & Hutter 2017, one period)."""

    def shape(self, x: Tensor) -> Tensor:
        return (1 + torch.cos(math.pi * x)) / 2


class Cosine716(Constant):
    """cos(7πx/16): from 1 to about .195 (FixMatch, arXiv 2001.07685, section 2.4)."""

    def shape(self, x: Tensor) -> Tensor:
        return torch.cos(7 * math.pi / 16 * x)


class Poly(Constant):
    """(1 − x)^power: from 1 to 0."""

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup, power: PositiveFloat):
        super().__init__(steps=steps, warmup=warmup, warmup_shape=warmup_shape)
        self.power = power

    def shape(self, x: Tensor) -> Tensor:
        return (1 - x).clamp(min=0) ** self.power


class RampDown(Constant):
    """1, then e^{−12.5u²} with u from 0 to 1 over the last `length` fraction of the run (code of Laine & Aila 2017)."""

    def __init__(self, *, steps: PositiveInt, warmup: Fraction, warmup_shape: Warmup, length: Fraction):
        super().__init__(steps=steps, warmup=warmup, warmup_shape=warmup_shape)
        self.length = length

    def shape(self, x: Tensor) -> Tensor:
        if not self.length:
            return torch.ones_like(x)
        u = ((x - (1 - self.length)) / self.length).clamp(0, 1)
        return torch.exp(-12.5 * u.square())

"""Checks that a run has not diverged."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from meanteacher.config.errors import UserError

ADVICE = (
    "lower optimizer.lr or use trainer.precision=fp32; the last checkpoint is from before, and the same command "
    "unchanged would diverge again"
)

Describe = Callable[[], str]
"""Describes the first step whose loss was not finite. Called only if a check fails."""


def check_metrics(means: dict[str, float], step: int, describe: Describe) -> None:
    """Raise UserError if a mean metric of the steps up to `step` is infinite or NaN."""
    if not all(map(math.isfinite, means.values())):
        raise UserError(f"the loss is not finite by step {step} ({means}){describe()}; {ADVICE}")


def check_weights(models: Iterable[nn.Module], step: int, describe: Describe) -> None:
    """Raise UserError if a weight after `step` steps is infinite or NaN. Waits for the device."""
    weights = [weight for model in models for weight in model.parameters()]
    if not torch.stack([weight.isfinite().all() for weight in weights]).all():
        raise UserError(f"a weight is not finite by step {step}{describe()}; {ADVICE}")

"""Checks that a run has not diverged: that its weights are finite, and equal in all of its processes."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.training.ranks import Ranks

ADVICE = (
    "lower optimizer.lr or use trainer.precision=fp32; no checkpoint holds such a state, but the same command would "
    "diverge again"
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


def check_equal_weights(models: Iterable[nn.Module], step: int, ranks: Ranks) -> None:
    """Raise UserError if the processes of a run have different weights after `step` steps. Waits for the device."""
    if not ranks.together:
        return
    sums = ranks.gather(torch.stack([weight.double().sum() for model in models for weight in model.parameters()]))
    if not torch.equal(sums, sums[:1].expand_as(sums)):
        raise UserError(
            f"the processes of this run have different weights by step {step}: a device is faulty, or the devices are "
            "not alike; use equal devices, and rerun the command to resume from the last checkpoint"
        )

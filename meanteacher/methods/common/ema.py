"""Exponential moving averages of a network's weights, with an explicit policy for its batch-norm statistics."""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Decay, Literal
from meanteacher.models.batch_norm import freeze_running_stats


class EMA(nn.Module):
    """θ′ ← αθ′ + (1 − α)θ after each step, in float32 (Tarvainen & Valpola 2017, arXiv 1703.01780, eq. 1).

    decay: α. warmup: use min(1 − 1/(t + 1), α) in step t = 1, 2, …, so that the random initialization is forgotten. bn:
    source of the average's buffers, which are its batch-norm statistics. `own`: its own forward passes in training
    mode; `copy`: the student's; `average`: the average of the student's (integers are copied).
    """

    model: nn.Module
    """The averaged network, without gradients. It exists after `bind`."""

    def __init__(self, *, decay: Decay, warmup: bool, bn: Literal["own", "copy", "average"]):
        super().__init__()
        self.decay, self.warmup, self.bn = decay, warmup, bn

    def bind(self, student: nn.Module) -> Self:
        """Start from a copy of `student`. Called once, before training."""
        self.model = copy.deepcopy(student).requires_grad_(False)
        return self

    def decay_at(self, step: Tensor) -> Tensor:
        """The α of the update that follows training step `step` (0-dim, counted from 0)."""
        alpha = torch.full_like(step, self.decay, dtype=torch.float32)
        return torch.minimum(1 - 1 / (step + 2), alpha) if self.warmup else alpha

    @torch.no_grad()
    def update(self, student: nn.Module, step: Tensor) -> None:
        """Move the average toward `student` after training step `step`."""
        averages, sources = list(self.model.parameters()), list(student.parameters())
        if self.bn != "own":
            for average, source in zip(self.model.buffers(), student.buffers(), strict=True):
                if self.bn == "average" and average.is_floating_point():
                    averages.append(average)
                    sources.append(source)
                else:
                    average.copy_(source)
        change = torch._foreach_sub(sources, averages)
        torch._foreach_mul_(change, 1 - self.decay_at(step))
        torch._foreach_add_(averages, change)  # three kernels on a GPU; a lerp by a tensor would launch one per weight


class Teacher(EMA):
    """An average that predicts targets: `teacher(images)` gives logits without gradient.

    decay, warmup, bn: see `EMA`. mode: `train` predicts with batch statistics and dropout, as the paper does; `eval`
    with the running statistics and without dropout. With `bn=average`, these passes do not update the running
    statistics. Raises UserError for `bn=own` with `mode=eval`.
    """

    def __init__(
        self,
        *,
        decay: Decay,
        warmup: bool,
        bn: Literal["own", "copy", "average"],
        mode: Literal["train", "eval"],
    ):
        if bn == "own" and mode == "eval":
            raise UserError(
                "method.teacher.bn=own needs method.teacher.mode=train: in evaluation mode the teacher never updates "
                "its batch-norm statistics"
            )
        super().__init__(decay=decay, warmup=warmup, bn=bn)
        self.mode = mode

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        with freeze_running_stats(self.model, self.bn == "average"):
            return self.model(images)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and self.mode == "train")

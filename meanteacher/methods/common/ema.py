"""Exponential moving averages of a network's weights, with a named policy for its buffers (batch-norm statistics)."""

import copy

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Decay, Literal


class EMA(nn.Module):
    """θ′ ← αθ′ + (1 − α)θ after each step (Tarvainen & Valpola 2017, arXiv 1703.01780, eq. 1), in the weights' own float32.

    decay: α. warmup: use min(1 − 1/(t + 1), α) with t = 1 after the first step, so that the random start is forgotten.
    buffers: `own` leaves the buffers to the average's own forward passes in training mode, `copy` copies the student's,
    `average` averages them like weights (integer buffers are copied).
    """

    def __init__(self, model: nn.Module, *, decay: Decay, warmup: bool, buffers: Literal["own", "copy", "average"]):
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.warmup, self.buffers_policy = decay, warmup, buffers

    def decay_at(self, step: Tensor) -> Tensor:
        """α for the update that follows training step `step` (0-dim, counted from 0)."""
        alpha = torch.full_like(step, self.decay, dtype=torch.float32)
        return torch.minimum(1 - 1 / (step + 2), alpha) if self.warmup else alpha

    @torch.no_grad()
    def update(self, source: nn.Module, step: Tensor) -> None:
        """Move the average toward `source` after step `step`."""
        mine, theirs = list(self.model.parameters()), list(source.parameters())
        pairs = zip(self.model.buffers(), source.buffers(), strict=True)
        if self.buffers_policy != "own":
            average = self.buffers_policy == "average"
            for own, other in pairs:
                if average and own.is_floating_point():
                    mine.append(own)
                    theirs.append(other)
                else:
                    own.copy_(other)
        change = torch._foreach_sub(theirs, mine)
        torch._foreach_mul_(change, 1 - self.decay_at(step))
        torch._foreach_add_(mine, change)  # three kernels on a GPU; a lerp by a tensor would be one for each weight


class Teacher(EMA):
    """An average of the student that gives targets without gradient.

    decay, warmup and bn (the policy for buffers): see `EMA`. mode: `train` gives the teacher batch statistics and dropout of
    its own, as in the Mean Teacher paper; `eval` gives it running statistics and no dropout.
    The student does not exist yet when a configuration's `teacher` node is built: the method calls `bind` once.
    Raises UserError for batch-norm statistics that would never be updated.
    """

    def __init__(
        self, *, decay: Decay, warmup: bool, bn: Literal["own", "copy", "average"], mode: Literal["train", "eval"]
    ):
        if bn == "own" and mode == "eval":
            raise UserError(
                "method.teacher.bn=own needs method.teacher.mode=train: "
                "in evaluation mode the teacher's own statistics are never updated"
            )
        nn.Module.__init__(self)
        self.decay, self.warmup, self.buffers_policy, self.mode = decay, warmup, bn, mode

    def bind(self, student: nn.Module) -> "Teacher":
        """Copy the student's weights; returns self."""
        self.model = copy.deepcopy(student).requires_grad_(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The teacher's logits [B, K] for images [B, C, H, W], without gradient."""
        return self.model(images)

    def train(self, mode: bool = True) -> "Teacher":
        """Switch to the teacher's own mode while the method trains."""
        return super().train(mode and self.mode == "train")

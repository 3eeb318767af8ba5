"""Frozen copies of the student, taken at equal intervals of the run: an ensemble of teachers."""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from meanteacher.config.types import PositiveInt


class Snapshots(nn.Module):
    """The last `ensemble` of the copies of the student that are taken at the ends of the first rounds − 1 rounds.

    steps: the length of the run, which `rounds` divide equally. Everything follows from the step, so that a step has no
    host–device synchronization. The copies have no gradient and are always in evaluation mode: running BatchNorm
    statistics and no dropout.
    """

    def __init__(self, *, rounds: PositiveInt, ensemble: PositiveInt, steps: PositiveInt):
        super().__init__()
        self.rounds, self.ensemble, self.steps = rounds, ensemble, steps

    def bind(self, student: nn.Module) -> Self:
        """Create the copies, which count only once they are taken. Called once, before training."""
        copies = [copy.deepcopy(student).requires_grad_(False) for _ in range(self.ensemble)]
        self.models = nn.ModuleList(copies).eval()
        return self

    def completed(self, step: Tensor) -> Tensor:
        """The number of rounds that end before training step `step` (0-dim, counted from 0): 0-dim."""
        return torch.floor(step * self.rounds / self.steps)

    @torch.no_grad()
    def forward(self, images: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Mean probabilities of the copies taken so far, float32 [B, K], and 1 if there are any, else 0 (0-dim).

        If there are none, the probabilities are 0.
        """
        count = self.completed(step).clamp(max=self.ensemble)
        taken = [(count > place).float() for place in range(self.ensemble)]
        predictions = [model(images).float().softmax(dim=1) for model in self.models]
        total = torch.stack([weight * p for weight, p in zip(taken, predictions, strict=True)]).sum(dim=0)
        return total / count.clamp(min=1), taken[0]

    @torch.no_grad()
    def update(self, student: nn.Module, step: Tensor) -> None:
        """Replace the oldest copy by the student if training step `step` is the last one of a round."""
        after = self.completed(step + 1)
        ends = (after > self.completed(step)) & (after < self.rounds)
        for place, model in enumerate(self.models):
            taken = ends & ((after - 1) % self.ensemble == place)
            for kept, current in zip(model.state_dict().values(), student.state_dict().values(), strict=True):
                kept.copy_(torch.where(taken, current, kept))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.models.eval()
        return self

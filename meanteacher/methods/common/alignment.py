"""Distribution alignment (ReMixMatch, Berthelot et al. 2020, arXiv 1911.09785): a class marginal is imposed."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay

EPSILON = 1e-6


class DistributionAlignment(nn.Module):
    """aligned = norm(p · (target + ε) / (model + ε)), ε = 1e-6, norm: divided by its sum over classes.

    model: running mean of the batch's mean p. target: running mean of the labeled images' mean prediction where that
    is given, else uniform. Both start at 1/C, so the first batches are hardly changed, and move before they are used.
    decay: of both; 0 takes the batch's own means. All in float32.
    """

    def __init__(self, *, decay: Decay):
        super().__init__()
        self.decay = decay

    def bind(self, *, num_classes: int) -> "DistributionAlignment":
        """Make the state; called once by the method."""
        self.register_buffer("model", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("target", torch.full((num_classes,), 1 / num_classes))
        return self

    def forward(self, probabilities: Tensor, labeled: Tensor | None) -> Tensor:
        """probabilities [B, C] → [B, C]; labeled: predictions [L, C] or None. Neither carries a gradient."""
        self.model.lerp_(probabilities.mean(dim=0), 1 - self.decay)
        if labeled is not None:
            self.target.lerp_(labeled.mean(dim=0), 1 - self.decay)
        aligned = probabilities * (self.target + EPSILON) / (self.model + EPSILON)
        return aligned / aligned.sum(dim=1, keepdim=True)

"""Distribution alignment of predictions to a class marginal (ReMixMatch, Berthelot et al. 2020, arXiv 1911.09785)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Literal

EPSILON = 1e-6


class DistributionAlignment(nn.Module):
    """aligned = norm(p · (target + ε) / (model + ε)) in float32, ε = 1e-6, where norm divides by the sum over classes.

    model: running mean of the batches' mean p. target: running mean of the mean prediction on labeled images, or
    uniform. start: `uniform`, both start at 1/C, so the first batches are hardly changed; `first_batch`: at the means
    of the first batch, as the model mean of USB 0.3.2 (algorithms/hooks/dist_align.py), whose target mean starts at
    1/C. They are updated before they are used. decay: of both; 0 uses the means of the current batch.
    """

    def __init__(self, *, decay: Decay, start: Literal["uniform", "first_batch"]):
        super().__init__()
        self.decay, self.start = decay, start

    def bind(self, *, num_classes: int) -> "DistributionAlignment":
        """Create the state. Called once, by the method."""
        self.register_buffer("model", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("target", torch.full((num_classes,), 1 / num_classes))
        if self.start == "first_batch":
            self.register_buffer("keep", torch.zeros(()))
        return self

    def forward(self, probabilities: Tensor, labeled: Tensor | None) -> Tensor:
        """probabilities: float32 [B, C] → [B, C]. labeled: predictions on labeled images [L, C], or None (uniform).

        Neither carries a gradient.
        """
        newest = 1 - self.decay * (self.keep if self.start == "first_batch" else 1)
        self.model.lerp_(probabilities.mean(dim=0), newest)
        if labeled is not None:
            self.target.lerp_(labeled.mean(dim=0), newest)
        if self.start == "first_batch":
            self.keep.fill_(1.0)
        aligned = probabilities * (self.target + EPSILON) / (self.model + EPSILON)
        return aligned / aligned.sum(dim=1, keepdim=True)

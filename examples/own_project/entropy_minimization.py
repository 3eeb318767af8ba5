"""Entropy minimization (Grandvalet & Bengio 2004, "Semi-supervised learning by entropy minimization")."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import NonNegativeFloat
from meanteacher.methods import Labeled, Method, StepOutput, Unlabeled, Views, cross_entropy


class EntropyMinimization(Method):
    """L = mean CE(f(x), y) + entropy_weight · mean H(f(u)), where H is the entropy of the predicted classes in nats."""

    views = Views(labeled=("weak",), unlabeled=("weak",))

    def __init__(self, *, student: nn.Module, entropy_weight: NonNegativeFloat):
        super().__init__()
        self.student, self.entropy_weight = student, entropy_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        labeled_images = len(labeled.target)
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        supervised = cross_entropy(logits[:labeled_images], labeled.target).mean()
        log_probabilities = logits[labeled_images:].float().log_softmax(1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(1).mean()
        loss = supervised + self.entropy_weight * entropy
        return StepOutput(loss, {"supervised": supervised.detach(), "entropy": entropy.detach()})

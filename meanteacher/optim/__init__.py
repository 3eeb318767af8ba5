"""Optimizers and schedules of learning rates and loss weights.

Imported by methods, training, runs and everything above them. May import config only. The names in `__all__` are the
public interface. A yaml file names a schedule as `_target_: meanteacher.optim.Cosine`, and an optimizer by its class in
`torch.optim`, with `_partial_: true`.
"""

from meanteacher.optim.optimizers import LearningRate, build_optimizer, parameter_groups
from meanteacher.optim.schedules import Constant, Cosine, Cosine716, CosineSpan, Poly, RampDown

__all__ = [
    "Constant",
    "Cosine",
    "Cosine716",
    "CosineSpan",
    "LearningRate",
    "Poly",
    "RampDown",
    "build_optimizer",
    "parameter_groups",
]

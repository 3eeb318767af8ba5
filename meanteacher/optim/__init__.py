"""Optimizers and schedules of learning rates and loss weights.

Imported by methods, training, runs and everything above them. May import config. The names below are the public interface;
a yaml file names a schedule as `_target_: meanteacher.optim.Cosine`, and an optimizer by its class in `torch.optim`.
"""

from meanteacher.optim.optimizers import LearningRate, build_optimizer, parameter_groups
from meanteacher.optim.schedules import Constant, Cosine, Cosine716, Poly, RampDown

__all__ = [
    "Constant",
    "Cosine",
    "Cosine716",
    "LearningRate",
    "Poly",
    "RampDown",
    "build_optimizer",
    "parameter_groups",
]

"""Optimizers with parameter groups, and schedules as functions of the step.

`methods`, `training`, `runs` and everything above may import this package; it imports `config` alone. The names in `__all__`
are public.
"""

from meanteacher.optim.optimizers import build_optimizer
from meanteacher.optim.schedules import Constant, Cosine, Cosine716, Poly, RampDown

__all__ = ["Constant", "Cosine", "Cosine716", "Poly", "RampDown", "build_optimizer"]

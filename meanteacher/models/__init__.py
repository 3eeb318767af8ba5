"""Networks: the base contract, batch normalization, and one file for each architecture.

`methods`, `training`, `runs` and everything above may import this package; it imports `config` alone. The names in `__all__`
are the public interface for networks that are kept in another repository.
"""

from meanteacher.config.errors import UserError
from meanteacher.config.types import Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import MeanOnlyBatchNorm, PSBatchNorm2d, freeze_running_stats, norm_layer

__all__ = [
    "Decay",
    "Fraction",
    "Literal",
    "MeanOnlyBatchNorm",
    "Network",
    "NonNegativeFloat",
    "PSBatchNorm2d",
    "PositiveFloat",
    "PositiveInt",
    "UserError",
    "freeze_running_stats",
    "norm_layer",
]

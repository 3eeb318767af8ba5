"""Semi-supervised methods: one file per paper, their contract in `base`, and shared parts in `common`.

Imported by training, runs and the rooms above. May import models, optim, data and config. The names below are the public
interface for authors of methods; they stay when modules move inside the package.
"""

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.ema import EMA, Teacher
from meanteacher.methods.common.forward import joint_forward
from meanteacher.methods.common.losses import (
    cross_entropy,
    entropy,
    one_hot,
    softmax_kl,
    softmax_mse,
    softmax_mse_both,
)
from meanteacher.methods.common.mixup import beta, mix, sharpen
from meanteacher.methods.common.weighting import (
    CurriculumThreshold,
    FixedThreshold,
    SelfAdaptiveThreshold,
    TruncatedGaussian,
    Weighting,
)

__all__ = [
    "EMA",
    "CurriculumThreshold",
    "DistributionAlignment",
    "FixedThreshold",
    "Labeled",
    "Method",
    "SelfAdaptiveThreshold",
    "StepOutput",
    "Teacher",
    "TruncatedGaussian",
    "Unlabeled",
    "UserError",
    "Views",
    "Weighting",
    "beta",
    "cross_entropy",
    "entropy",
    "joint_forward",
    "mix",
    "one_hot",
    "sharpen",
    "softmax_kl",
    "softmax_mse",
    "softmax_mse_both",
]

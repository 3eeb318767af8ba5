"""Semi-supervised learning methods: the base contract, one file per paper, and shared parts in `common`.

`training`, `runs` and everything above may import this package; it imports `models`, `optim`, `data` and `config`. The
names in `__all__` are the public interface for methods that are kept in another repository.
"""

from meanteacher.config.errors import UserError
from meanteacher.config.types import (
    Annotated,
    Decay,
    Fraction,
    Literal,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Warmup,
)
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.ema import EMA, Teacher
from meanteacher.methods.common.losses import (
    cross_entropy,
    entropy,
    one_hot,
    softmax_kl,
    softmax_mse,
    softmax_mse_both,
)
from meanteacher.methods.common.memory_bank import MemoryBank
from meanteacher.methods.common.mixup import guess_labels, mix, mix_batch, sharpen
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.snapshots import Snapshots
from meanteacher.methods.common.weighting import (
    CurriculumThreshold,
    FixedThreshold,
    SelfAdaptiveThreshold,
    TruncatedGaussian,
    Weighting,
)
from meanteacher.optim.schedules import Constant

__all__ = [
    "EMA",
    "Annotated",
    "Constant",
    "CurriculumThreshold",
    "Decay",
    "DistributionAlignment",
    "FixedThreshold",
    "Fraction",
    "Labeled",
    "Literal",
    "MemoryBank",
    "Method",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "PseudoLabels",
    "SelfAdaptiveThreshold",
    "Snapshots",
    "StepOutput",
    "Teacher",
    "TruncatedGaussian",
    "Unlabeled",
    "UserError",
    "Views",
    "Warmup",
    "Weighting",
    "add_terms",
    "cross_entropy",
    "entropy",
    "guess_labels",
    "mix",
    "mix_batch",
    "one_hot",
    "predict_together",
    "sharpen",
    "softmax_kl",
    "softmax_mse",
    "softmax_mse_both",
]

"""FreeMatch (Wang et al. 2023, arXiv 2205.07246): FixMatch with self-adaptive thresholds and a fairness term."""

from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.base import StepOutput
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.weighting import SelfAdaptiveThreshold
from meanteacher.methods.fixmatch import FixMatch

EMPTY = 1e-20
"""A class with at most this share of the images counts as empty."""


class FreeMatch(FixMatch):
    """L = L_FixMatch + λ_f · fairness, where the weighting is `SelfAdaptiveThreshold`.

    λ_f: fairness_weight. All other arguments are those of `FixMatch`. Raises UserError for another weighting.
    """

    def __init__(self, *, fairness_weight: NonNegativeFloat, **fixmatch):
        super().__init__(**fixmatch)
        if not isinstance(self.weighting, SelfAdaptiveThreshold):
            raise UserError(
                "method.weighting: FreeMatch's fairness term needs meanteacher.methods.SelfAdaptiveThreshold"
            )
        self.fairness_weight = fairness_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        output, strong, weight = self.pseudo_label_step(labeled, unlabeled)
        fairness = fairness_loss(strong, weight, self.weighting.classes, self.weighting.histogram)
        metrics = output.metrics | {"fairness": fairness, "threshold": self.weighting.level.clone()}
        return StepOutput(output.loss + self.fairness_weight * fairness, metrics)


def fairness_loss(strong: Tensor, weight: Tensor, classes: Tensor, histogram: Tensor) -> Tensor:
    """Σ_c A_c log B_c, to be minimized: A = norm(p̃ / h̃), B = norm(p̄ / h̄), norm: division by the sum over classes.

    p̄ and h̄: mean prediction and class counts of the strong views [B, K] of weight 1; p̃ (classes) and h̃ (histogram): the
    running means over weak views. The gradient flows through p̄ alone. It is (A_c − B_c) / p̄_c, so a step lowers the mean
    prediction of classes that are counted more often than their probability says (B below A) and raises the others. A
    class without images is left out of B and of the sum; the authors' code adds A_c log 1e-12 for it, which has no gradient.
    """
    p = strong.float().softmax(dim=1)
    each = weight.unsqueeze(1)
    counts = (each * one_hot(p.argmax(dim=1), p.shape[1])).mean(dim=0)
    a, b = share(classes, histogram), share((each * p).mean(dim=0), counts)
    return (a * (counts > EMPTY) * b.clamp(min=EMPTY).log()).sum()


def share(mass: Tensor, counts: Tensor) -> Tensor:
    """mass / counts, 0 where there is no count, divided by its sum."""
    ratio = (counts > EMPTY) * mass / counts.clamp(min=EMPTY)
    return ratio / ratio.sum().clamp(min=EMPTY)

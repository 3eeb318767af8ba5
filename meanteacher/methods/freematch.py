"""FreeMatch (Wang et al. 2023, arXiv 2205.07246)."""

from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.weighting import SelfAdaptiveThreshold
from meanteacher.methods.fixmatch import FixMatch

EMPTY = 1e-20
"""A class whose share of images is at most this has no images."""


class FreeMatch(FixMatch):
    """FixMatch with `SelfAdaptiveThreshold` and the further term fairness_weight · `fairness`; the student judges."""

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: SelfAdaptiveThreshold,
        unlabeled_weight: NonNegativeFloat,
        fairness_weight: NonNegativeFloat,
    ):
        if not isinstance(weighting, SelfAdaptiveThreshold):
            raise UserError("method.weighting: FreeMatch needs meanteacher.methods.SelfAdaptiveThreshold")
        facts = {"student": student, "num_classes": num_classes, "num_images": num_images}
        super().__init__(**facts, weighting=weighting, unlabeled_weight=unlabeled_weight, judge="student", teacher=None)
        self.fairness_weight = fairness_weight

    def further_terms(
        self, labeled: Labeled, unlabeled: Unlabeled, q: Tensor, strong: Tensor, weight: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        term = fairness(strong, weight, self.weighting.classes, self.weighting.histogram)
        return {"fairness": (self.fairness_weight, term)}


def fairness(strong: Tensor, weight: Tensor, classes: Tensor, histogram: Tensor) -> Tensor:
    """Σ_c A_c log B_c, to be minimized: A = norm(p̃ / h̃), B = norm(p̄ / h̄), where norm divides by the sum. Returns 0-dim.

    p̄ and h̄: mean prediction and histogram of the argmax over the strong views (logits [B, K]) of weight 1 ([B], 0 or
    1); p̃ (classes) and h̃ (histogram), [K]: running means of the same over the weak views. The gradient flows through
    p̄ alone and is (A_c − B_c) / p̄_c: a step lowers the mean prediction of classes that are predicted more often than
    their probability says (B below A) and raises that of the others. A class without images is left out of B and of the
    sum; the authors' code adds A_c log 1e-12 for it, which has no gradient.
    """
    p = strong.float().softmax(dim=1)
    column = weight.unsqueeze(1)
    counts = (column * one_hot(p.argmax(dim=1), p.shape[1])).mean(dim=0)
    a, b = normalized_ratio(classes, histogram), normalized_ratio((column * p).mean(dim=0), counts)
    return (a * (counts > EMPTY) * b.clamp(min=EMPTY).log()).sum()


def normalized_ratio(mass: Tensor, counts: Tensor) -> Tensor:
    """mass / counts, 0 where counts are 0, divided by its sum. [K] each."""
    ratio = (counts > EMPTY) * mass / counts.clamp(min=EMPTY)
    return ratio / ratio.sum().clamp(min=EMPTY)

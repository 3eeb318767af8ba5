"""AdaMatch (Berthelot et al. 2021, arXiv 2106.04732), as semi-supervised learning."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Fraction, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import predict_together
from meanteacher.models.batch_norm import freeze_running_stats
from meanteacher.optim.schedules import Constant


def draw_fractions(logits: Tensor) -> Tensor:
    """Independent draws from U(0, 1), one for each logit."""
    return torch.rand_like(logits)


class AdaMatch(Method):
    """L = mean CE(z, y) + λ(s) · mean 1[max q ≥ τ · mean max p_x] · CE(student(strong(u)), argmax q).

    z: logits of the labeled weak and strong views, each drawn uniformly between the logit from a pass of all views and
    the logit from a pass of the labeled views alone (random logit interpolation). The first mean runs over both views.
    p_x = softmax(z of the weak views); q = softmax(student(weak(u))), aligned by the running mean prediction on labeled
    over that on unlabeled images (`DistributionAlignment`). Neither carries a gradient. The second mean runs over all
    unlabeled images. τ: threshold, relative to the mean confidence on labeled images; λ(s) = unlabeled_weight ·
    unlabeled_ramp(s).

    All views share BatchNorm statistics in the first pass, which updates the running statistics; the pass of the
    labeled views alone does not, as in the authors' code. Hard pseudo-labels and the mean over both labeled views also
    follow that code, which averages the unlabeled predictions over the last 128 batches; here both running means decay
    exponentially.
    """

    views = Views(labeled=("weak", "strong"), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        threshold: Fraction,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
        alignment: DistributionAlignment,
    ):
        super().__init__()
        self.student, self.threshold, self.weight, self.ramp = student, threshold, unlabeled_weight, unlabeled_ramp
        self.alignment = alignment.bind(num_classes=num_classes)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        both = torch.cat(labeled.views)
        together, weak, strong = (part.float() for part in predict_together(self.student, both, *unlabeled.views))
        with freeze_running_stats(self.student):
            alone = self.student(both).float()
        z = together + draw_fractions(together) * (alone - together)
        p = z[: len(labeled.target)].detach().softmax(dim=1)
        confidence, pseudo = self.alignment(weak.detach().softmax(dim=1), p).max(dim=1)
        threshold = self.threshold * p.amax(dim=1).mean()
        mask = (confidence >= threshold).float()
        supervised = cross_entropy(z, labeled.target.repeat(2)).mean()
        consistency = (mask * cross_entropy(strong, pseudo)).mean()
        terms = {"consistency": (self.weight * self.ramp(step), consistency)}
        return add_terms(supervised, terms, PseudoLabels(pseudo, mask), kept=mask.mean(), threshold=threshold)

"""AdaMatch (Berthelot et al. 2021, arXiv 2106.04732), as semi-supervised learning."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Fraction, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.models.batch_norm import freeze_running_stats
from meanteacher.optim.schedules import Constant


def shares(logits: Tensor) -> Tensor:
    """A number from U(0, 1) for each logit."""
    return torch.rand_like(logits)


class AdaMatch(Method):
    """L = mean CE(z, y) + λ(s) · mean 1[max q ≥ τ · mean max p_x] · CE(student(strong(u)), argmax q).

    z: logits of the labeled weak and strong views, each number drawn uniformly between that of the batch of all views
    and that of a batch of the labeled views alone (random logit interpolation). The first mean runs over both views,
    so each counts half. p_x = softmax(z of the weak views); q = aligned softmax(student(weak(u))), aligned by the
    labeled over the unlabeled running mean prediction (`DistributionAlignment`). Neither carries a gradient. The
    second mean runs over all unlabeled images. τ: threshold, relative; λ(s) = unlabeled_weight · unlabeled_ramp(s).

    The four views share BatchNorm statistics in the first pass, whose running statistics are kept; the pass of the
    labeled views alone leaves none, as in the authors' code. Hard pseudo-labels and the half of each labeled view are
    also that code's. It averages the unlabeled predictions over the last 128 batches; here both running means have
    one decay.
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
        n, b = len(labeled.target), len(unlabeled.index)
        together, weak, strong = (
            self.student(torch.cat([*labeled.views, *unlabeled.views])).float().split([2 * n, b, b])
        )
        with freeze_running_stats(self.student):
            alone = self.student(torch.cat(labeled.views)).float()
        z = together + shares(together) * (alone - together)
        p = z[:n].detach().softmax(dim=1)
        confidence, pseudo = self.alignment(weak.detach().softmax(dim=1), p).max(dim=1)
        threshold = self.threshold * p.amax(dim=1).mean()
        mask = (confidence >= threshold).float()
        supervised = cross_entropy(z, labeled.target.repeat(2)).mean()
        consistency = (mask * cross_entropy(strong, pseudo)).mean()
        return StepOutput(
            supervised + self.weight * self.ramp(step) * consistency,
            {
                "supervised": supervised,
                "consistency": consistency,
                "kept": mask.mean(),
                "threshold": threshold,
            },
        )

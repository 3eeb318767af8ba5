"""Pseudo-Label (Lee 2013, "Pseudo-Label: The simple and efficient semi-supervised learning method", ICML workshop)."""

from torch import Tensor, nn

from meanteacher.config.types import NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import Passes, predict_labeled_and_unlabeled
from meanteacher.methods.common.weighting import Weighting
from meanteacher.optim.schedules import Constant


class PseudoLabel(Method):
    """L = mean CE(student(weak(x)), y) + λ(s) · mean w(p) · CE(z, argmax p), z = student(weak(u)), p = softmax(z)
    without gradient.

    The same prediction gives the pseudo-label and is trained on it. λ(s) = unlabeled_weight · unlabeled_ramp(s). The
    second mean runs over all unlabeled images. weighting: w, a fixed threshold in TorchSSL; the paper has none
    (threshold 0) and raises λ linearly between two steps. passes: see `MeanTeacher`.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
        passes: Passes,
    ):
        super().__init__()
        self.student, self.weight, self.ramp, self.passes = student, unlabeled_weight, unlabeled_ramp, passes
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, z = predict_labeled_and_unlabeled(self.student, *labeled.views, *unlabeled.views, self.passes)
        p = z.detach().float().softmax(dim=1)
        weight = self.weighting(p, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(z, p.argmax(dim=1))).mean()
        terms = {"consistency": (self.weight * self.ramp(step), consistency)}
        return add_terms(supervised, terms, PseudoLabels(p, weight), kept=weight.mean(), **self.weighting.metrics())

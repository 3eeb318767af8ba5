"""Noisy Student self-training (Xie et al. 2020, arXiv 1911.04252), with its rounds in one run."""

from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.mixup import sharpen
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.snapshots import Snapshots
from meanteacher.methods.common.weighting import Weighting


class NoisyStudent(Method):
    """L = mean CE(student(x), y) + λ · mean w(q) · CE(student(strong u), sharpen(q, T)).

    q: mean prediction of the teachers for the weak view, without gradient and without noise in the network. The
    teachers are frozen copies of the student (`Snapshots`): the run is divided into `rounds`, the first of which trains
    on labeled images alone (w = 0), and at the end of each the student replaces the oldest of `ensemble` teachers. w:
    weighting, as the authors filter images; T: temperature; λ: unlabeled_weight. labeled_view: the view of x.
    The student's noise is that of the strong views and of its dropout. Labeled and strong views share BatchNorm
    statistics.

    The paper trains a new and larger student in each round, for a full schedule; here the student goes on. It predicts
    each image once a round, here at each visit, and balances the classes of the images that it keeps, here not.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        snapshots: Snapshots,
        weighting: Weighting,
        temperature: PositiveFloat,
        unlabeled_weight: NonNegativeFloat,
        labeled_view: Literal["weak", "strong"],
    ):
        super().__init__()
        self.views = Views((labeled_view,), ("weak", "strong"))
        self.student, self.teachers = student, snapshots.bind(student)
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)
        self.temperature, self.weight = temperature, unlabeled_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        q, taught = self.teachers(unlabeled.views[0], step)
        logits, strong = predict_together(self.student, labeled.views[0], unlabeled.views[1])
        weight = taught * self.weighting(q, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        pseudo = sharpen(q + 1e-20, self.temperature)
        consistency = (weight * cross_entropy(strong, pseudo)).mean()
        terms = {"consistency": (self.weight, consistency)}
        metrics = {"kept": weight.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(q, weight), **metrics)

    def after_step(self, step: Tensor) -> None:
        self.teachers.update(self.student, step)

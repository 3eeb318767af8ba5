"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import CONSISTENCY, cross_entropy
from meanteacher.methods.common.passes import Passes, predict_labeled_and_unlabeled, second_views
from meanteacher.methods.common.weighting import Weighting
from meanteacher.optim.schedules import Constant


class MeanTeacher(Method):
    """L = mean CE(student(x), y) + λ(s) · mean d(student(u), teacher(u′)); teacher ← EMA(student) after each step.

    u and u′ are two weak views of one image; with student_view `strong`, which the paper does not have, u is a strong
    one, and with labeled_view `strong`, the student's view x of the labeled images is. consistency: the distance d,
    `mse` of probabilities averaged over classes (section 2 of the paper) or `kl`. λ(s) = consistency_weight ·
    consistency_ramp(s). consistency_on_labeled: the mean of d runs over labeled and unlabeled images together, as in
    the paper; otherwise over the unlabeled images. weighting: d of each image is multiplied by its weight, computed
    from the teacher's prediction; null for the paper's 1. passes: `together`, the student sees labeled and unlabeled
    images in one batch, so they share BatchNorm statistics; `separate`, as in TorchSSL: in two, of which the labeled
    one updates the running statistics. The teacher sees all images of the term in one batch. teacher: see `Teacher`.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        teacher: Teacher,
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
        student_view: Literal["weak", "strong"],
        labeled_view: Literal["weak", "strong"],
        weighting: Weighting | None,
        passes: Passes,
    ):
        super().__init__()
        self.student, self.teacher, self.on_labeled = student, teacher.bind(student), consistency_on_labeled
        self.passes = passes
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images) if weighting else None
        self.distance, self.weight, self.ramp = CONSISTENCY[consistency], consistency_weight, consistency_ramp
        labeled = (labeled_view, "weak") if consistency_on_labeled else (labeled_view,)
        self.views = Views(labeled, (student_view, "weak"))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, others = predict_labeled_and_unlabeled(self.student, labeled.views[0], unlabeled.views[0], self.passes)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency, pseudo_labels = self.consistency(logits, others, labeled, unlabeled)
        return add_terms(supervised, {"consistency": (self.weight * self.ramp(step), consistency)}, pseudo_labels)

    def consistency(
        self, labeled_logits: Tensor, logits: Tensor, labeled: Labeled, unlabeled: Unlabeled
    ) -> tuple[Tensor, PseudoLabels]:
        """Mean distance from the teacher's logits, 0-dim, and the teacher's prediction for the unlabeled images.

        labeled_logits, logits: of the first views, [B_l, K] and [B_u, K].
        """
        targets = self.teacher(second_views(labeled, unlabeled, self.on_labeled))
        probabilities = targets.float().softmax(dim=1)
        index = torch.cat([labeled.index, unlabeled.index]) if self.on_labeled else unlabeled.index
        distance = self.distance(torch.cat([labeled_logits, logits]) if self.on_labeled else logits, targets)
        weight = self.weighting(probabilities, index) if self.weighting else None
        mean = distance.mean() if weight is None else (weight * distance).mean()
        first = len(targets) - len(logits)
        return mean, PseudoLabels(probabilities[first:], None if weight is None else weight[first:])

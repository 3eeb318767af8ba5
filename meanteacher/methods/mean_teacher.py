"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import CONSISTENCY, cross_entropy
from meanteacher.optim.schedules import Constant


class MeanTeacher(Method):
    """L = mean CE(student(x), y) + λ(s) · mean d(student(u), teacher(u′)); teacher ← EMA(student) after each step.

    u and u′ are two weak views of one image. consistency: d, `mse` of probabilities, averaged over classes (section 2), or
    `kl`. λ(s) = consistency_weight · consistency_ramp(s). The mean of d runs over the unlabeled images, or with
    `consistency_on_labeled` over labeled and unlabeled images together (the paper's choice).
    The student sees labeled and unlabeled images in one batch, so they share its batch-norm statistics; so does the teacher.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher,
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
    ):
        super().__init__()
        self.student, self.teacher = student, teacher.bind(student)
        self.on_labeled = consistency_on_labeled
        self.distance, self.weight, self.ramp = CONSISTENCY[consistency], consistency_weight, consistency_ramp
        self.views = Views(("weak", "weak") if consistency_on_labeled else ("weak",), ("weak", "weak"))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        return self.compare(logits, logits, labeled, unlabeled, step)

    def compare(
        self, logits: Tensor, consistency_logits: Tensor, labeled: Labeled, unlabeled: Unlabeled, step: Tensor
    ) -> StepOutput:
        """The loss of the student's logits for the labels and of those that meet the teacher's. [labeled + unlabeled, K]."""
        n = len(labeled.target)
        second_views = [labeled.views[1], unlabeled.views[1]] if self.on_labeled else [unlabeled.views[1]]
        targets = self.teacher(torch.cat(second_views))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency = self.distance(consistency_logits if self.on_labeled else consistency_logits[n:], targets).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(loss, {"supervised": supervised, "consistency": consistency})

    def after_step(self, step: Tensor) -> None:
        self.teacher.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher.model}

"""Mean Teacher with two outputs, the paper's residual-network recipe (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.models.dual_output import DualOutput
from meanteacher.optim.schedules import Constant


class MeanTeacherDual(Method):
    """L = mean CE(c(x), y) + λ(s) · mean d(s(u), c′(u′)) + logit_distance_weight · mean (c − s)².

    c and s are the student's class logits and second logits, from one feature map; c′ are the teacher's class logits. The
    first two terms are those of `MeanTeacher`, which holds the student with both heads and its average.
    The consistency term thus pulls on the second head, which only logit_distance_weight (.01 in the paper) ties to the
    class head. The last mean runs over classes and all images of the student's batch, labeled and unlabeled, with gradient
    to both heads. The class logits of student and teacher are evaluated.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        teacher: Teacher,
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
        logit_distance_weight: NonNegativeFloat,
    ):
        super().__init__()
        self.pair = MeanTeacher(
            student=DualOutput(student, num_classes),
            teacher=teacher,
            consistency=consistency,
            consistency_weight=consistency_weight,
            consistency_ramp=consistency_ramp,
            consistency_on_labeled=consistency_on_labeled,
        )
        self.views, self.logit_distance_weight = self.pair.views, logit_distance_weight

    @property
    def student(self) -> nn.Module:
        return self.pair.student.network

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, second = self.pair.student.both(torch.cat([labeled.views[0], unlabeled.views[0]]))
        output = self.pair.compare(logits, second, labeled, unlabeled, step)
        distance = (logits.float() - second.float()).square().mean()
        loss = output.loss + self.logit_distance_weight * distance
        return StepOutput(loss, output.metrics | {"logit_distance": distance})

    def after_step(self, step: Tensor) -> None:
        self.pair.after_step(step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {name: model.network for name, model in self.pair.eval_models().items()}

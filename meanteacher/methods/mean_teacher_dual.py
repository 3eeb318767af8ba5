"""Mean Teacher with two outputs, the paper's ResNet recipe (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, StepOutput, Unlabeled
from meanteacher.methods.base import Method
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.models.dual_output import DualOutput
from meanteacher.optim.schedules import Constant


class MeanTeacherDual(Method):
    """L = mean CE(c(x), y) + λ(s) · mean d(s(u), c′(u′)) + logit_distance_weight · mean (c − s)².

    c and s are the student's class logits and second logits, from one feature map; c′ the teacher's class logits; d, λ(s),
    u, u′, x and the other arguments are those of `MeanTeacher`, which keeps the student with both heads and its average.
    The consistency term thus pulls on the second head, which only logit_distance_weight (.01 in the paper) ties to the
    class head; the last mean runs over classes and all images of the student's batch, labeled and unlabeled, with gradient
    to both heads. Evaluated are the class logits of student and teacher.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        ema_decay: Decay,
        ema_warmup: bool,
        teacher_bn: Literal["own", "copy", "average"],
        teacher_mode: Literal["train", "eval"],
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
        logit_distance_weight: NonNegativeFloat,
    ):
        super().__init__()
        self.pair = MeanTeacher(
            student=DualOutput(student, num_classes),
            ema_decay=ema_decay,
            ema_warmup=ema_warmup,
            teacher_bn=teacher_bn,
            teacher_mode=teacher_mode,
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
        n, pair = len(labeled.target), self.pair
        logits, second = pair.student.both(torch.cat([labeled.views[0], unlabeled.views[0]]))
        with torch.no_grad():
            seen = [labeled.views[1], unlabeled.views[1]] if pair.on_labeled else [unlabeled.views[1]]
            targets = pair.ema.model(torch.cat(seen))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency = pair.distance(second if pair.on_labeled else second[n:], targets).mean()
        distance = (logits.float() - second.float()).square().mean()
        loss = supervised + pair.weight * pair.ramp(step) * consistency + self.logit_distance_weight * distance
        metrics = {"supervised": supervised, "consistency": consistency, "logit_distance": distance}
        return StepOutput(loss, {name: value.detach() for name, value in metrics.items()})

    def after_step(self, step: Tensor) -> None:
        self.pair.after_step(step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {name: model.network for name, model in self.pair.eval_models().items()}

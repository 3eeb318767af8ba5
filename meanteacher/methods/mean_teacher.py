"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Literal, NonNegativeFloat
from meanteacher.data.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.methods.base import Method
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import CONSISTENCY, cross_entropy
from meanteacher.optim.schedules import Constant


class MeanTeacher(Method):
    """L = mean CE(student(x), y) + λ(s) · mean d(student(u), teacher(u′)); teacher ← EMA(student) after each step.

    u and u′ are two weak views of one image. d: `mse` of probabilities, averaged over classes (section 2), or `kl`.
    λ(s) = consistency_weight · consistency_ramp(s). The mean of d runs over the unlabeled images, or with
    `consistency_on_labeled` over labeled and unlabeled images together (the paper's choice).
    The student sees both kinds in one batch, so they share its BatchNorm statistics; the teacher likewise.
    ema_decay, ema_warmup, teacher_bn: see `EMA`. teacher_mode `train` gives the teacher batch statistics and dropout of
    its own (the paper's), `eval` its running statistics and no dropout.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        ema_decay: Decay,
        ema_warmup: bool,
        teacher_bn: Literal["own", "copy", "average"],
        teacher_mode: Literal["train", "eval"],
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
    ):
        super().__init__()
        self.student = student
        self.ema = Teacher(student, decay=ema_decay, warmup=ema_warmup, buffers=teacher_bn, mode=teacher_mode)
        self.on_labeled = consistency_on_labeled
        self.distance, self.weight, self.ramp = CONSISTENCY[consistency], consistency_weight, consistency_ramp
        self.views = Views(("weak", "weak") if consistency_on_labeled else ("weak",), ("weak", "weak"))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        with torch.no_grad():
            seen = [labeled.views[1], unlabeled.views[1]] if self.on_labeled else [unlabeled.views[1]]
            targets = self.ema.model(torch.cat(seen))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency = self.distance(logits if self.on_labeled else logits[n:], targets).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(loss, {"supervised": supervised.detach(), "consistency": consistency.detach()})

    def after_step(self, step: Tensor) -> None:
        self.ema.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.ema.model}

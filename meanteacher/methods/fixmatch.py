"""FixMatch (Sohn et al. 2020, arXiv 2001.07685), with a choice of how pseudo-labels are weighted and who judges."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.methods.base import Method
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.weighting import Weighting


class FixMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean w(q) · CE(student(strong(u)), argmax q).

    q = softmax(judge(weak(u))), without gradient. The second mean runs over all unlabeled images, also those of
    weight 0 (eq. 4). λ: unlabeled_weight. weighting: w. `FixedThreshold`, 1[max q ≥ τ], is FixMatch;
    `CurriculumThreshold` is FlexMatch (Zhang et al. 2021, arXiv 2110.08263) and `TruncatedGaussian` SoftMatch (Chen
    et al. 2023, arXiv 2301.10921), which differ in nothing else.

    teacher `student`: the judge is the student. All views go through it in one batch, so they share its BatchNorm
    statistics, as in the authors' code; the averaged weights that are evaluated, as in the papers, are the trainer's.
    teacher `ema`: the judge is an average of the student, as in Mean Teacher, and is evaluated last; this is in none
    of the papers. The student's batch is then the labeled and the strong views, the teacher's the weak unlabeled ones.
    ema_decay, ema_warmup, teacher_bn, teacher_mode: as in `MeanTeacher`; without effect for `student`.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        teacher: Literal["student", "ema"],
        ema_decay: Decay,
        ema_warmup: bool,
        teacher_bn: Literal["own", "copy", "average"],
        teacher_mode: Literal["train", "eval"],
    ):
        super().__init__()
        self.student, self.weight, self.ema = student, unlabeled_weight, None
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)
        if teacher == "ema":
            self.ema = Teacher(student, decay=ema_decay, warmup=ema_warmup, buffers=teacher_bn, mode=teacher_mode)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, weak, strong = self.predictions(labeled.views[0], *unlabeled.views)
        q = weak.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, q.argmax(dim=1))).mean()
        return StepOutput(
            supervised + self.weight * consistency,
            {"supervised": supervised.detach(), "consistency": consistency.detach(), "kept": weight.mean()},
        )

    def predictions(self, labeled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The student's logits of labeled and strong views, and the judge's of weak ones, in the order given."""
        n, b = len(labeled), len(weak)
        if self.ema is None:
            return self.student(torch.cat([labeled, weak, strong])).split([n, b, b])
        logits, strong = self.student(torch.cat([labeled, strong])).split([n, b])
        with torch.no_grad():
            return logits, self.ema.model(weak), strong

    def after_step(self, step: Tensor) -> None:
        if self.ema is not None:
            self.ema.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {"student": self.student} | ({} if self.ema is None else {"teacher": self.ema.model})

"""FixMatch (Sohn et al. 2020, arXiv 2001.07685), with a choice of pseudo-label weights and of the network that judges."""

from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.forward import joint_forward
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.weighting import Weighting


class FixMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean w(q) · CE(student(strong(u)), argmax q).

    q = softmax(judge(weak(u))), without gradient. The second mean runs over all unlabeled images, including those of
    weight 0 (eq. 4). λ: unlabeled_weight. weighting: w. `FixedThreshold`, 1[max q ≥ τ], is FixMatch;
    `CurriculumThreshold` is FlexMatch (Zhang et al. 2021, arXiv 2110.08263), and `TruncatedGaussian` is SoftMatch (Chen
    et al. 2023, arXiv 2301.10921): they differ in nothing else.

    judge `student`: the student judges. All views go through it in one batch, so they share its batch-norm statistics, as
    in the authors' code; the averaged weights that are evaluated, as in the papers, belong to the trainer.
    judge `ema`: the teacher judges, an average of the student as in Mean Teacher, and is evaluated last; none of the papers
    does this. The student's batch then holds the labeled and the strong views, the teacher's the weak unlabeled views.
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
        judge: Literal["student", "ema"],
        teacher: Teacher,
    ):
        super().__init__()
        self.student, self.weight = student, unlabeled_weight
        self.teacher = teacher.bind(student) if judge == "ema" else None
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        return self.pseudo_label_step(labeled, unlabeled)[0]

    def pseudo_label_step(self, labeled: Labeled, unlabeled: Unlabeled) -> tuple[StepOutput, Tensor, Tensor]:
        """The output of the step, the student's logits of the strong views [B, K], and their weights [B]."""
        logits, weak, strong = self.predict(labeled.views[0], *unlabeled.views)
        q = weak.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, q.argmax(dim=1))).mean()
        metrics = {"supervised": supervised, "consistency": consistency, "kept": weight.mean()}
        return StepOutput(supervised + self.weight * consistency, metrics), strong, weight

    def predict(self, labeled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The student's logits of the labeled views, the judge's of the weak views, the student's of the strong views."""
        if self.teacher is None:
            return joint_forward(self.student, labeled, weak, strong)
        logits, strong_logits = joint_forward(self.student, labeled, strong)
        return logits, self.teacher(weak), strong_logits

    def after_step(self, step: Tensor) -> None:
        if self.teacher is not None:
            self.teacher.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        return {"student": self.student} | ({} if self.teacher is None else {"teacher": self.teacher.model})

"""FixMatch (Sohn et al. 2020, arXiv 2001.07685), with a choice of pseudo-label weights and of the judging network."""

from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.weighting import Weighting


class FixMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · mean w(q) · CE(student(strong(u)), argmax q), q = softmax(judge(weak(u))).

    q has no gradient. The second mean runs over all unlabeled images, including those of weight 0 (eq. 4). λ:
    unlabeled_weight. weighting: w. `FixedThreshold`, 1[max q ≥ τ], is FixMatch; `CurriculumThreshold` is FlexMatch
    (Zhang et al. 2021, arXiv 2110.08263) and `TruncatedGaussian` is SoftMatch (Chen et al. 2023, arXiv 2301.10921),
    which differ from FixMatch in nothing else.

    judge `student`: all views pass through the student in one batch and share BatchNorm statistics, as in the authors'
    code; `teacher` is not used. The trainer keeps the averaged weights that the papers evaluate. judge `ema`:
    `teacher`, an average of the student as in Mean Teacher, predicts q from the weak views and is evaluated last, which
    none of the papers does. The labeled and the strong views then share the student's BatchNorm statistics.
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
        teacher: Teacher | None,
    ):
        super().__init__()
        self.student, self.weight = student, unlabeled_weight
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)
        self.teacher = teacher.bind(student) if judge == "ema" else None

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, weak, strong = self.predict(labeled.views[0], *unlabeled.views)
        q = weak.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, q.argmax(dim=1))).mean()
        terms = {"consistency": (self.weight, consistency)} | self.further_terms(labeled, unlabeled, q, strong, weight)
        metrics = {"kept": weight.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(q, weight), **metrics)

    def predict(self, labeled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, ...]:
        """Logits in the order of the arguments: the student's for labeled and strong views, the judge's for weak."""
        if self.teacher is None:
            return predict_together(self.student, labeled, weak, strong)
        logits, strong_logits = predict_together(self.student, labeled, strong)
        return logits, self.teacher(weak), strong_logits

    def further_terms(
        self, labeled: Labeled, unlabeled: Unlabeled, q: Tensor, strong: Tensor, weight: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Terms that a subclass adds to the loss, as in `add_terms`.

        q: float32 [B, K], the judge's prediction for the weak views, detached; strong: logits [B, K]; weight: float32
        [B].
        """
        return {}

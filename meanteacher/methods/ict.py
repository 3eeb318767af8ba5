"""Interpolation Consistency Training (Verma et al. 2019, arXiv 1903.03825)."""

from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import mix_batch
from meanteacher.methods.common.passes import predict_together
from meanteacher.optim.schedules import Constant


class ICT(Method):
    """L = mean CE(student(mix(x, x′)), mix(y, y′)) + λ(s) · mean d(student(mix(u, u′)), mix(q(u), q(u′))).

    q = softmax(teacher(·)). mix(a, b) = ν · a + (1 − ν) · b with ν ~ Beta(alpha, alpha), drawn once per `step` (the
    authors) or per `image`: weight_per. A random permutation pairs each unlabeled image with one of its batch; labeled
    images are paired by a permutation and ν of their own, or are not mixed without `mix_labeled`. d: squared difference
    of probabilities, averaged over classes. λ(s) = consistency_weight · consistency_ramp(s). teacher: see `Teacher`.
    The teacher sees the same weak view that is mixed. q is mixed as probabilities, as in the paper; the authors' code
    mixes logits. The student sees mixed labeled and mixed unlabeled images in one batch, so they share BatchNorm
    statistics; the authors use two passes. The teacher sees the unmixed unlabeled images alone.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher,
        alpha: PositiveFloat,
        weight_per: Literal["image", "step"],
        mix_labeled: bool,
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
    ):
        super().__init__()
        self.student, self.teacher = student, teacher.bind(student)
        self.alpha, self.weight_per, self.mix_labeled = alpha, weight_per, mix_labeled
        self.weight, self.ramp = consistency_weight, consistency_ramp

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        x, u = labeled.views[0], unlabeled.views[0]
        q = self.teacher(u).float().softmax(dim=1)
        y = one_hot(labeled.target, q.shape[1])
        pseudo_labels = PseudoLabels(q, None)
        u, q = mix_batch(u, q, alpha=self.alpha, per=self.weight_per, nearer=False)
        if self.mix_labeled:
            x, y = mix_batch(x, y, alpha=self.alpha, per=self.weight_per, nearer=False)
        logits, unlabeled_logits = (part.float() for part in predict_together(self.student, x, u))
        supervised = F.cross_entropy(logits, y)
        consistency = (unlabeled_logits.softmax(dim=1) - q).square().mean()
        return add_terms(supervised, {"consistency": (self.weight * self.ramp(step), consistency)}, pseudo_labels)

"""Interpolation Consistency Training (Verma et al. 2019, arXiv 1903.03825)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import StepOutput
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import one_hot
from meanteacher.methods.common.mixup import draw, mix
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.optim.schedules import Constant


class ICT(MeanTeacher):
    """L = mean CE(student(mix(x, x′)), mix(y, y′)) + λ(s) · mean d(student(mix(u, u′)), mix(q(u), q(u′))).

    q = softmax(teacher(·)). mix(a, b) = ν·a + (1 − ν)·b with ν from Beta(alpha, alpha), drawn once per step (as in the
    authors' code) or per image: `weight_per`. Each unlabeled image is paired with another image of its batch by a random
    permutation, and each labeled image with a labeled one, by another permutation and ν; without `mix_labeled` the first
    term is plain cross-entropy. d: squared difference, averaged over classes. λ(s) = consistency_weight ·
    consistency_ramp(s). One weak view serves the teacher and the mix. q is mixed as probabilities, as in the paper; the
    authors' code mixes logits. The student sees mixed labeled and mixed unlabeled images in one batch, so they share its
    batch-norm statistics (the authors run them separately); the teacher sees only the unmixed unlabeled images.
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
        super().__init__(
            student=student,
            teacher=teacher,
            consistency="mse",
            consistency_weight=consistency_weight,
            consistency_ramp=consistency_ramp,
            consistency_on_labeled=False,
        )
        self.views = ICT.views
        self.alpha, self.weight_per, self.mix_labeled = alpha, weight_per, mix_labeled

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        x, u = labeled.views[0], unlabeled.views[0]
        q = self.teacher(u).float().softmax(dim=1)
        y = one_hot(labeled.target, q.shape[1])
        partner, weight = draw(u, self.alpha, self.weight_per)
        u, q = mix(u, u[partner], weight), mix(q, q[partner], weight)
        if self.mix_labeled:
            partner, weight = draw(x, self.alpha, self.weight_per)
            x, y = mix(x, x[partner], weight), mix(y, y[partner], weight)
        logits = self.student(torch.cat([x, u])).float()
        supervised = F.cross_entropy(logits[: len(y)], y)
        consistency = (logits[len(y) :].softmax(dim=1) - q).square().mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(loss, {"supervised": supervised, "consistency": consistency})

"""Π-model (Laine & Aila 2017, arXiv 1610.02242)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy, softmax_mse, softmax_mse_both
from meanteacher.optim.schedules import Constant


class PiModel(Method):
    """L = mean CE(student(x), y) + λ(s) · mean ‖softmax student(u) − softmax student(u′)‖² / classes (algorithm 1).

    u and u′ are two weak views of one image, seen by the same network with its own dropout noise each.
    gradient: `both` sends it through both passes (the paper's), `one` takes the second as a target, which needs no backward
    pass there and gives half the gradient in expectation. λ(s) = consistency_weight · consistency_ramp(s). The mean runs over
    the unlabeled images, or with `consistency_on_labeled` over labeled and unlabeled images together (the paper's).
    The labeled and unlabeled images of one pass share a BatchNorm batch; the two passes do not. Both move the running
    statistics. λ is relative to the mean CE over labeled images; the paper divides the CE by the size of the whole batch.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        gradient: Literal["both", "one"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
    ):
        super().__init__()
        self.student, self.both, self.on_labeled = student, gradient == "both", consistency_on_labeled
        self.weight, self.ramp = consistency_weight, consistency_ramp
        self.distance = softmax_mse_both if self.both else softmax_mse
        self.views = Views(("weak", "weak") if consistency_on_labeled else ("weak",), ("weak", "weak"))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        with torch.set_grad_enabled(self.both):
            seen = [labeled.views[1], unlabeled.views[1]] if self.on_labeled else [unlabeled.views[1]]
            others = self.student(torch.cat(seen))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency = self.distance(logits if self.on_labeled else logits[n:], others).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(loss, {"supervised": supervised, "consistency": consistency})

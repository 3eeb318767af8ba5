"""Π-model (Laine & Aila 2017, arXiv 1610.02242)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy, softmax_mse, softmax_mse_both
from meanteacher.methods.common.passes import Passes, predict_labeled_and_unlabeled, second_views
from meanteacher.models.batch_norm import freeze_running_stats
from meanteacher.optim.schedules import Constant


class PiModel(Method):
    """L = mean CE(student(x), y) + λ(s) · mean ‖softmax student(u) − softmax student(u′)‖² / classes (algorithm 1).

    u and u′ are two weak views of one image, passed through the same network with different dropout masks. gradient:
    `both` differentiates both passes, as in the paper; `one` takes the second pass as a target, which saves its
    backward pass and gives half of the gradient in expectation. λ(s) = consistency_weight · consistency_ramp(s),
    relative to the mean CE over labeled images; the paper divides the CE by the size of the whole batch.
    consistency_on_labeled: the consistency term runs over labeled and unlabeled images together, as in the paper;
    otherwise over the unlabeled images. passes: `together`, labeled and unlabeled images are in one batch and share
    BatchNorm statistics, and both passes update the running statistics; `separate`, as in TorchSSL: labeled images are
    in a batch of their own, which alone updates the running statistics.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        gradient: Literal["both", "one"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
        passes: Passes,
    ):
        super().__init__()
        self.student, self.both, self.on_labeled = student, gradient == "both", consistency_on_labeled
        self.weight, self.ramp, self.passes = consistency_weight, consistency_ramp, passes
        self.distance = softmax_mse_both if self.both else softmax_mse
        self.views = Views(("weak", "weak") if consistency_on_labeled else ("weak",), ("weak", "weak"))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, firsts = predict_labeled_and_unlabeled(self.student, labeled.views[0], unlabeled.views[0], self.passes)
        with freeze_running_stats(self.student, self.passes == "separate"), torch.set_grad_enabled(self.both):
            seconds = self.student(second_views(labeled, unlabeled, self.on_labeled))
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = self.distance(torch.cat([logits, firsts]) if self.on_labeled else firsts, seconds).mean()
        return add_terms(supervised, {"consistency": (self.weight * self.ramp(step), consistency)})

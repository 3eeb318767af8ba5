"""Supervised learning from the labeled images alone: the baseline."""

from torch import Tensor, nn

from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy


class Supervised(Method):
    """L = mean over labeled images of −log p(y | weak(x)). The trainer also evaluates averaged weights."""

    views = Views(labeled=("weak",), unlabeled=())

    def __init__(self, *, student: nn.Module):
        super().__init__()
        self.student = student

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        loss = cross_entropy(self.student(labeled.views[0]), labeled.target).mean()
        return StepOutput(loss, {"supervised": loss})

"""Supervised learning from the labeled images alone: the baseline."""

from torch import Tensor, nn

from meanteacher.config.types import Literal
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy


class Supervised(Method):
    """L = mean over labeled images of −log p(y | x). The trainer also evaluates averaged weights.

    labeled_view: the view x of a labeled image. Methods with strong views have more augmentation than a baseline with
    weak ones; `strong` tells how much of their lead is due to that.
    """

    def __init__(self, *, student: nn.Module, labeled_view: Literal["weak", "strong"]):
        super().__init__()
        self.student, self.views = student, Views((labeled_view,), ())

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        loss = cross_entropy(self.student(labeled.views[0]), labeled.target).mean()
        return StepOutput(loss, {"supervised": loss})

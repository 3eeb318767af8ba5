"""DeFixMatch (Schmutz et al. 2023, arXiv 2203.07512), "Don't fear the unlabelled": FixMatch without the bias."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.weighting import Weighting


class DeFixMatch(Method):
    """L = mean ½[CE(student(weak(x)), y) + CE(student(strong(x)), y)] + λ · [mean H(u) − mean H(x)].

    H(v) = w(q) · CE(student(strong(v)), argmax q), q = softmax(student(weak(v))) without gradient, is FixMatch's loss
    of an image without its label. The mean over the labeled images, whose labels H ignores, removes the bias that the
    mean over the unlabeled ones brings into the risk. Means run over all images, those of weight 0 too. λ:
    unlabeled_weight; weighting: w, called once for the unlabeled and the labeled images together. All views share
    BatchNorm statistics, as in the authors' code. The trainer keeps the averaged weights that the paper evaluates.
    """

    views = Views(labeled=("weak", "strong"), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
    ):
        super().__init__()
        self.student, self.weight = student, unlabeled_weight
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        sizes = [len(unlabeled.index), len(labeled.index)]
        x, x_strong, u, u_strong = predict_together(self.student, *labeled.views, *unlabeled.views)
        supervised = (cross_entropy(x, labeled.target) + cross_entropy(x_strong, labeled.target)).mean() / 2
        q = torch.cat([u, x]).detach().float().softmax(dim=1)
        weight = self.weighting(q, torch.cat([unlabeled.index, labeled.index]))
        losses = weight * cross_entropy(torch.cat([u_strong, x_strong]), q.argmax(dim=1))
        consistency, bias = (part.mean() for part in losses.split(sizes))
        kept, labeled_kept = (part.mean() for part in weight.split(sizes))
        terms = {"consistency": (self.weight, consistency), "bias": (-self.weight, bias)}
        metrics = {"kept": kept, "labeled_kept": labeled_kept} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(q[: sizes[0]], weight[: sizes[0]]), **metrics)

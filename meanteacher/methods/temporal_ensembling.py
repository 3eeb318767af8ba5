"""Temporal Ensembling (Laine & Aila 2017, arXiv 1610.02242)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.optim.schedules import Constant


def mean_over_equal(index: Tensor, values: Tensor) -> Tensor:
    """Each row's mean over the rows of the same index, with the same bits for all of them. int64 [B], float32 [B, K] → [B, K].

    Without atomic additions, so it is the same in each run; without autocast, so it is float32.
    """
    same = index[:, None] == index
    place = torch.arange(len(index), device=index.device)
    first = torch.where(same, place, len(index)).amin(dim=1)
    with torch.autocast(values.device.type, enabled=False):
        share = same.float() / same.sum(dim=1, keepdim=True)
        return (share @ values)[first]


class TemporalEnsembling(Method):
    """L = mean CE(student(x), y) + λ(s) · mean 1[visited] · ‖softmax student(u) − target‖² / classes (algorithm 2).

    Each image i of the training part has a running sum Z_i and its weight w_i, both 0 at the start. At each visit the target
    Z_i / w_i is read first, then Z_i ← αZ_i + (1 − α)p_i and w_i ← αw_i + (1 − α), where p_i is this step's detached
    prediction. After k visits w_i = 1 − α^k, so the target is a weighted mean of all past predictions however irregular the
    visits; with one visit an epoch it is the paper's Z / (1 − α^t). An image without a visit counts 0 in the mean, which
    still divides by all images. An image that occurs several times in a step (labeled images do so where there are fewer
    than the batch holds, or where they are unlabeled too) is visited once, with the mean of its predictions.

    ensemble_decay: α, by visit: labeled images, drawn far more often than once an epoch, have a shorter memory in time.
    λ(s) = consistency_weight · consistency_ramp(s), relative to the mean CE over labeled images; the paper divides the CE by
    the size of the whole batch. The term and the visits are of the unlabeled images, with `consistency_on_labeled` also of
    the labeled ones (the paper's). All images of a step share one BatchNorm batch. Memory: num_images · (num_classes + 1)
    float32.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_images: PositiveInt,
        num_classes: PositiveInt,
        ensemble_decay: Decay,
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
    ):
        super().__init__()
        self.student, self.decay, self.on_labeled = student, ensemble_decay, consistency_on_labeled
        self.weight, self.ramp = consistency_weight, consistency_ramp
        self.register_buffer("ensemble", torch.zeros(num_images, num_classes))
        self.register_buffer("ensemble_weight", torch.zeros(num_images))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        logits = self.student(torch.cat([labeled.views[0], unlabeled.views[0]]))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        index = torch.cat([labeled.index, unlabeled.index]) if self.on_labeled else unlabeled.index
        predictions = (logits if self.on_labeled else logits[n:]).float().softmax(dim=1)
        targets, visited = self.visit(index, predictions)
        consistency = (visited * (predictions - targets).square().mean(dim=1)).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency
        return StepOutput(
            loss,
            {"supervised": supervised, "consistency": consistency, "visited": visited.mean()},
        )

    @torch.no_grad()
    def visit(self, index: Tensor, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """The targets [B, K] and whether there are any (float [B]), from the earlier visits; then this one is added."""
        ensemble, weight = self.ensemble[index], self.ensemble_weight[index]
        grown = self.decay * ensemble + (1 - self.decay) * mean_over_equal(index, predictions)
        self.ensemble.index_copy_(0, index, grown)
        self.ensemble_weight.index_copy_(0, index, self.decay * weight + (1 - self.decay))
        visited = (weight > 0).float()
        return ensemble / torch.where(weight > 0, weight, 1.0)[:, None], visited

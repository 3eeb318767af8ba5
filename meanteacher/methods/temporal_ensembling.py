"""Temporal Ensembling (Laine & Aila 2017, arXiv 1610.02242)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.optim.schedules import Constant


def mean_over_equal(index: Tensor, values: Tensor) -> Tensor:
    """For each row, the mean over all rows of the same index, bitwise equal. int64 [B], float32 [B, K] → [B, K].

    Contains no atomic additions, so the result is deterministic, and disables autocast, so it is float32.
    """
    same = index[:, None] == index
    position = torch.arange(len(index), device=index.device)
    first = torch.where(same, position, len(index)).amin(dim=1)
    with torch.autocast(values.device.type, enabled=False):
        fraction = same.float() / same.sum(dim=1, keepdim=True)
        return (fraction @ values)[first]


class TemporalEnsembling(Method):
    """L = mean CE(student(x), y) + λ(s) · mean 1[visited] · ‖softmax student(u) − target‖² / classes (algorithm 2).

    Each image i of the training part has a running sum Z_i and its weight w_i, both initially 0. At each visit, the
    target Z_i / w_i is read first; then Z_i ← αZ_i + (1 − α)p_i and w_i ← αw_i + (1 − α), where p_i is the detached
    prediction of this step. After k visits w_i = 1 − α^k, so the target is a weighted mean of all past predictions,
    however irregular the visits are; with one visit per epoch it is the paper's Z / (1 − α^t). An image that was not
    visited before adds 0 to the mean, which still divides by the number of images. An image that occurs more than once
    in a step is visited once, with the mean of its predictions; labeled images do so if there are fewer than the batch
    holds or if they are also unlabeled.

    ensemble_decay: α per visit; labeled images are drawn much more often than once per epoch, so their memory is
    shorter in time. λ(s) = consistency_weight · consistency_ramp(s), relative to the mean CE over labeled images; the
    paper divides the CE by the size of the whole batch. consistency_on_labeled: the term and the visits also include
    the labeled images, as in the paper. All images of a step share BatchNorm statistics. Memory: num_images ·
    (num_classes + 1) float32.
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
        terms = {"consistency": (self.weight * self.ramp(step), consistency)}
        last = len(index) - len(unlabeled.index)
        return add_terms(supervised, terms, PseudoLabels(targets[last:], visited[last:]), visited=visited.mean())

    @torch.no_grad()
    def visit(self, index: Tensor, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Targets [B, K] from earlier visits and whether there were any, float32 [B]; then adds this visit.

        index: int64 [B]; predictions: float32 [B, K].
        """
        ensemble, weight = self.ensemble[index], self.ensemble_weight[index]
        updated = self.decay * ensemble + (1 - self.decay) * mean_over_equal(index, predictions)
        self.ensemble.index_copy_(0, index, updated)
        self.ensemble_weight.index_copy_(0, index, self.decay * weight + (1 - self.decay))
        visited = (weight > 0).float()
        return ensemble / torch.where(weight > 0, weight, 1.0)[:, None], visited

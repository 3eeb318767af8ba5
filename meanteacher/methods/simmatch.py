"""SimMatch (Zheng et al. 2022, arXiv 2203.06915)."""

from typing import Any

import torch
from torch import Tensor

from meanteacher.config.types import Decay, Literal, NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import cross_entropy, one_hot
from meanteacher.methods.common.memory_method import MemoryMethod
from meanteacher.optim.schedules import Constant


class SimMatch(MemoryMethod):
    """L = mean CE(student(x), y) + λ_u · mean w(p̂) · CE(student(strong u), p̂) + λ_in · r(s) · mean H(t, b).

    The bank holds the embedding and the class c_k of each labeled image k. a: softmax over k of the inner products of
    the judge's embedding of the weak view with those, over `temperature`; b: the same of the student's embedding of the
    strong view; p: the judge's prediction for the weak view, aligned to uniform classes. t_k ∝ a_k · p(c_k) and p̂ = p +
    (1 − smoothing) · r(s) · (Σ_k a_k · onehot(c_k) − p); neither has a gradient. r: memory_ramp, 0 while the bank is
    empty; w: weighting; λ_u, λ_in: unlabeled_weight, instance_weight.

    judge `student`: all views pass through the student at once, as on CIFAR in the paper, where the bank averages over
    time (`bank_decay`). judge `ema`: `teacher`, an average of the student and its projection, sees x and the weak views
    and gives p, a and the bank's embeddings, as on ImageNet, where `bank_decay` is 0; x and the strong views share the
    student's BatchNorm statistics. Other arguments are those of `MemoryMethod`.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))

    def __init__(
        self,
        *,
        bank_decay: Decay,
        memory_ramp: Constant,
        instance_weight: NonNegativeFloat,
        judge: Literal["student", "ema"],
        teacher: Teacher | None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.bank_decay, self.ramp, self.instance_weight = bank_decay, memory_ramp, instance_weight
        self.teacher = teacher.bind(self.student) if judge == "ema" else None

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        (logits, keys), (weak, judged), (strong, embeddings) = self.predict(labeled.views[0], *unlabeled.views)
        ramp = self.ramp(step) * self.bank.filled.any()
        p = self.alignment(weak.detach().softmax(dim=1), None)
        pseudo, similarity = self.smooth(p, judged, ramp)
        target = self.share(similarity, p)
        weight = self.weighting(pseudo, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, pseudo)).mean()
        instance = -(target * self.bank.log_similarity(embeddings, self.temperature)).sum(dim=1).mean()
        self.pending = labeled.index, keys.detach(), one_hot(labeled.target, self.num_classes)
        terms = {"consistency": (self.weight, consistency), "instance": (self.instance_weight * ramp, instance)}
        metrics = {"kept": weight.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(pseudo, weight), **metrics)

    def predict(self, labeled: Tensor, weak: Tensor, strong: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Logits and embeddings of each argument. The judge's are `weak`'s and the embeddings of `labeled`."""
        if self.teacher is None:
            return self.student.both(labeled, weak, strong)
        (logits, _), trained = self.student.both(labeled, strong)
        with torch.no_grad():
            (_, keys), judged = self.teacher.model.both(labeled, weak)
        return (logits, keys), judged, trained

    def remember(self, index: Tensor, embeddings: Tensor, classes: Tensor) -> None:
        self.bank.write(index, embeddings, classes, self.bank_decay)

    def share(self, similarity: Tensor, p: Tensor) -> Tensor:
        """The instance target t_k ∝ a_k · p(c_k), [B, size]; 0 while the bank is empty. No gradient."""
        with torch.autocast(p.device.type, enabled=False):
            product = similarity * (p @ self.bank.classes.T)
        return product / product.sum(dim=1, keepdim=True).clamp(min=1e-20)

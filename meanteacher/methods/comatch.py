"""CoMatch (Li et al. 2021, arXiv 2011.11183)."""

from typing import Any

import torch
from torch import Tensor

from meanteacher.config.types import Fraction, NonNegativeFloat
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy, one_hot
from meanteacher.methods.common.memory_method import MemoryMethod


class CoMatch(MemoryMethod):
    """L = mean CE(student(x), y) + λ_u · mean w(p̂) · CE(student(strong u), p̂) + λ_c · mean H(Q_i, S_i).

    p: the student's prediction for the weak view, aligned to uniform classes. p̂ = smoothing · p + (1 − smoothing) ·
    Σ_k a_k · p_k: the bank holds embeddings and p of earlier weak views, and those of labeled images with their labels;
    a: softmax over k of the inner products of the weak view's embedding with these, over `temperature`. Until the bank
    is full, p̂ = p. Q: the pseudo-label graph, p̂_i · p̂_j where that is at least `graph_threshold` and else 0, with 1
    on the diagonal, divided by its sum over j. S_ij: softmax over j of ⟨z_i, z′_j⟩ / temperature, where z and z′ are
    the embeddings of two strong views; only the first is classified. p, p̂ and the bank carry no gradient. w:
    weighting; λ_u, λ_c: unlabeled_weight, contrast_weight. All views pass through the student at once and share
    BatchNorm statistics. Other arguments are those of `MemoryMethod`.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong", "strong"))

    def __init__(self, *, graph_threshold: Fraction, contrast_weight: NonNegativeFloat, **shared: Any):
        super().__init__(**shared)
        self.graph_threshold, self.contrast_weight = graph_threshold, contrast_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        outputs = self.student.both(labeled.views[0], *unlabeled.views)
        (logits, keys), (weak, judged), (strong, embeddings), (_, others) = outputs
        p = self.alignment(weak.detach().softmax(dim=1), None)
        pseudo, _ = self.smooth(p, judged, self.bank.filled.all().float())
        weight = self.weighting(pseudo, unlabeled.index)
        supervised = cross_entropy(logits, labeled.target).mean()
        consistency = (weight * cross_entropy(strong, pseudo)).mean()
        contrast = self.contrast(pseudo, embeddings, others).mean()
        classes = torch.cat([p, one_hot(labeled.target, self.num_classes)])
        self.pending = torch.cat([judged, keys]).detach(), classes
        terms = {"consistency": (self.weight, consistency), "contrast": (self.contrast_weight, contrast)}
        metrics = {"kept": weight.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(pseudo, weight), **metrics)

    def remember(self, embeddings: Tensor, classes: Tensor) -> None:
        self.bank.append(embeddings, classes)

    def contrast(self, pseudo: Tensor, embeddings: Tensor, others: Tensor) -> Tensor:
        """H(Q_i, S_i), float32 [B], with gradient to both embeddings, [B, D]. pseudo: [B, C]."""
        with torch.autocast(pseudo.device.type, enabled=False):
            graph = (pseudo @ pseudo.T).fill_diagonal_(1)
            graph = graph * (graph >= self.graph_threshold)
            log_similarity = (embeddings @ others.T / self.temperature).log_softmax(dim=1)
        return -(graph / graph.sum(dim=1, keepdim=True) * log_similarity).sum(dim=1)

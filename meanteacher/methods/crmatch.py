"""CR-Match (Fan et al. 2022, arXiv 2112.05825): FixMatch, a distance between feature maps, and rotations."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.feature_maps import average_cells
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.rotation import draw_quarter_turns, rotate
from meanteacher.methods.common.weighting import Weighting
from meanteacher.models.base import Network


class CRMatch(Method):
    """L = mean CE(x, y) + mean [λ · w(q) · CE(u_s, argmax q) + λ_d · w(q) · D(u_w, u_s) + λ_r · CE(turn(u_w, k), k)].

    q = softmax(student(u_w)) carries no gradient; u_w, u_s: weak and strong view of u. The second mean runs over
    all unlabeled images. D = max(c, 0) (`equivariant`: the classes of both views agree, their features differ) or 1 − c
    (`invariant`), where c is the cosine between linear projections of the two last feature maps, with gradient to both.
    The maps are averaged in map_side × map_side cells, which leaves a map of that size as it is. A two-layer head on
    the pooled features predicts the number k of quarter turns of the weak view. λ, λ_d, λ_r: unlabeled_weight,
    distance_weight, rotation_weight; w: weighting. All views share BatchNorm statistics. Deviation: USB's code turns
    weak views of further images, as many as there are labeled ones, by all four k; here each u is turned by a random k.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))
    needs_features = True
    needs_feature_map = True
    needs_square_images = True

    def __init__(
        self,
        *,
        student: Network,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        distance: Literal["equivariant", "invariant"],
        distance_weight: NonNegativeFloat,
        map_side: PositiveInt,
        rotation_weight: NonNegativeFloat,
    ):
        super().__init__()
        channels = student.feature_channels
        self.student, self.equivariant, self.map_side = student, distance == "equivariant", map_side
        self.projection = nn.Linear(channels * map_side**2, channels)
        self.rotation_head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 4))
        self.weights = unlabeled_weight, distance_weight, rotation_weight
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        (weak, strong), n, size = unlabeled.views, len(labeled.index), len(unlabeled.index)
        turns = draw_quarter_turns(weak)
        features = self.student.features(torch.cat([*labeled.views, weak, strong, rotate(weak, turns)]))
        logits, weak_logits, strong_logits = self.student.head(features[:-size]).split([n, size, size])
        q = weak_logits.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        losses = {
            "consistency": (weight * cross_entropy(strong_logits, q.argmax(dim=1))).mean(),
            "distance": (weight * self.distance(features[-3 * size : -size])).mean(),
            "rotation": cross_entropy(self.rotation_head(self.student.pool(features[-size:])), turns).mean(),
        }
        terms = {name: (factor, loss) for factor, (name, loss) in zip(self.weights, losses.items(), strict=True)}
        supervised = cross_entropy(logits, labeled.target).mean()
        metrics = {"kept": weight.mean()} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(q, weight), **metrics)

    def distance(self, maps: Tensor) -> Tensor:
        """D, float32 [B], between the first and the second half of feature maps [2B, C, h, w]."""
        projected = self.projection(average_cells(maps, self.map_side).flatten(1)).float()
        cosine = F.cosine_similarity(*projected.chunk(2))
        return cosine.clamp(min=0) if self.equivariant else 1 - cosine

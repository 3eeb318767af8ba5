"""SequenceMatch (Nguyen 2023, arXiv 2310.15787): FixMatch with a medium view between the weak and the strong one."""

from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.losses import cross_entropy, softmax_kl
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.weighting import CurriculumThreshold, FixedThreshold, Weighting


class SequenceMatch(Method):
    """L = mean CE(student(weak(x)), y) + λ · [mean w(p_w) · CE(z_s, argmax p_w) + D(w, m) + D(m, s) + D(w, s) + μ · R].

    z_w, z_m, z_s: the student's logits of the weak, the medium and the strong view of u; p = softmax(z). D(a, b) = mean
    1[max p_a ≥ τ] · KL(softmax(z_a / T) ‖ p_b) and R = mean (1 − w(p_w)) · KL(softmax(z_w / T) ‖ p_s), the term for
    images without confidence; z_a and p_w carry no gradient there. Means run over all unlabeled images. λ:
    unlabeled_weight; w: weighting, FlexMatch's `CurriculumThreshold` or `FixedThreshold`, with τ; T: temperature; μ:
    low_confidence_weight. All views share BatchNorm statistics. Terms and masks are those of the author's code, where
    R is a switch that its recipes leave off.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "medium", "strong"))

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        unlabeled_weight: NonNegativeFloat,
        temperature: PositiveFloat,
        low_confidence_weight: NonNegativeFloat,
    ):
        super().__init__()
        if not isinstance(weighting, FixedThreshold | CurriculumThreshold):
            raise UserError("method.weighting: SequenceMatch needs a threshold, FixedThreshold or CurriculumThreshold")
        self.student, self.weight, self.temperature = student, unlabeled_weight, temperature
        self.low_confidence_weight = low_confidence_weight
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        logits, weak, medium, strong = predict_together(self.student, *labeled.views, *unlabeled.views)
        supervised = cross_entropy(logits, labeled.target).mean()
        q = weak.detach().float().softmax(dim=1)
        weight = self.weighting(q, unlabeled.index)
        consistency = (weight * cross_entropy(strong, q.argmax(dim=1))).mean()
        pairs = ((weak, medium), (medium, strong), (weak, strong))
        sequence = sum(self.confident_divergence(logits, target) for target, logits in pairs)
        low_confidence = ((1 - weight) * self.divergence(strong, weak)).mean()
        terms = {
            "consistency": (self.weight, consistency),
            "sequence": (self.weight, sequence),
            "low_confidence": (self.weight * self.low_confidence_weight, low_confidence),
        }
        return add_terms(supervised, terms, PseudoLabels(q, weight), kept=weight.mean())

    def divergence(self, logits: Tensor, target: Tensor) -> Tensor:
        """KL(softmax(target / T) ‖ softmax(logits)), no gradient to the target. [B, K] twice → [B]."""
        return softmax_kl(logits, target.float() / self.temperature)

    def confident_divergence(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean of `divergence`, 0-dim, where images with max softmax(target) < τ count as 0."""
        kept = (target.detach().float().softmax(dim=1).amax(dim=1) >= self.weighting.threshold).float()
        return (kept * self.divergence(logits, target)).mean()

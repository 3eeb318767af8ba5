"""Virtual Adversarial Training (Miyato et al. 2018, arXiv 1704.03976)."""

from pydantic import Field
from torch import Tensor, nn

from meanteacher.config.types import Annotated, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput
from meanteacher.methods.common.adversarial import direction, no_dropout
from meanteacher.methods.common.losses import cross_entropy, entropy, softmax_kl
from meanteacher.models import batch_norm
from meanteacher.optim.schedules import Constant


class VAT(Method):
    """L = mean CE(student(x), y) + λ(s) · mean KL(p(u) ‖ p(u + r)) + entropy_weight · mean H(p(u)), p = softmax(student(·)).

    r = ε · d / |d| is the step of length epsilon, over all pixels and channels of a normalized image, that changes the image's
    prediction most: d starts as Gaussian noise and is replaced power_iterations times by the gradient of
    KL(p(u) ‖ p(u + ξ d / |d|)) with respect to d. p(u) is a target without gradient; d has none with respect to
    the weights. The entropy term is the paper's VAT+EntMin, 0 is without. λ(s) = consistency_weight ·
    consistency_ramp(s); the paper has λ = 1 throughout and also perturbs the labeled images.
    xi: ξ; the search for d is in float32 whatever the precision of the step, because smaller ξ and bfloat16 both lose ξd.

    Labeled and unlabeled images are separate BatchNorm batches, as in the authors' code: the KL vanishes at r = 0 only where
    both of its sides are normalized by the unlabeled images alone. Only the clean passes move the running statistics, both of
    them (in the authors' code the labeled alone). For the same reason dropout is off in all passes over unlabeled images.
    """

    views = Views(labeled=("weak",), unlabeled=("weak",))
    fullgraph = False

    def __init__(
        self,
        *,
        student: nn.Module,
        epsilon: PositiveFloat,
        xi: Annotated[float, Field(ge=1e-3)],
        power_iterations: PositiveInt,
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        entropy_weight: NonNegativeFloat,
    ):
        super().__init__()
        self.student, self.epsilon, self.xi, self.iterations = student, epsilon, xi, power_iterations
        self.weight, self.ramp, self.entropy_weight = consistency_weight, consistency_ramp, entropy_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        images = unlabeled.views[0]
        supervised = cross_entropy(self.student(labeled.views[0]), labeled.target).mean()
        with no_dropout(self.student):
            clean = self.student(images)
            d = direction(self.student, images, xi=self.xi, iterations=self.iterations)
            with batch_norm.freeze_running_stats(self.student):
                adversarial = self.student(images + self.epsilon * d)
        consistency = softmax_kl(adversarial, clean).mean()
        uncertainty = entropy(clean).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency + self.entropy_weight * uncertainty
        metrics = {"supervised": supervised, "consistency": consistency, "entropy": uncertainty}
        return StepOutput(loss, metrics)

"""Virtual Adversarial Training (Miyato et al. 2018, arXiv 1704.03976)."""

from pydantic import Field
from torch import Tensor, nn

from meanteacher.config.types import Annotated, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, StepOutput, add_terms
from meanteacher.methods.common.adversarial import adversarial_direction, disable_dropout
from meanteacher.methods.common.losses import cross_entropy, entropy, softmax_kl
from meanteacher.models.batch_norm import freeze_running_stats
from meanteacher.optim.schedules import Constant


class VAT(Method):
    """L = mean CE(student(x), y) + λ(s) · mean KL(p(u) ‖ p(u + r)) + entropy_weight · mean H(p(u)), p of the student.

    r = ε · d / |d|, of length epsilon over all pixels and channels of a normalized image, changes the prediction most:
    d starts as Gaussian noise and is replaced power_iterations times by the gradient of KL(p(u) ‖ p(u + ξ d / |d|))
    with respect to d. The target p(u) and d carry no gradient. The entropy term is the paper's VAT+EntMin; weight 0
    omits it. λ(s) = consistency_weight · consistency_ramp(s); the paper uses λ = 1 throughout and also perturbs the
    labeled images. xi: ξ, at least 0.001. The search for d runs in float32, because smaller ξ and bfloat16 both round
    ξd away.

    Labeled and unlabeled images are separate BatchNorm batches, as in the authors' code: the KL is 0 at r = 0 only if
    the unlabeled images alone normalize both of its sides. For the same reason dropout is off in all passes over
    unlabeled images. unlabeled_moves_statistics: whether the clean pass over unlabeled images updates the running
    statistics, as the labeled one does.
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
        unlabeled_moves_statistics: bool,
    ):
        super().__init__()
        self.student, self.epsilon, self.xi, self.iterations = student, epsilon, xi, power_iterations
        self.weight, self.ramp, self.entropy_weight = consistency_weight, consistency_ramp, entropy_weight
        self.moves_statistics = unlabeled_moves_statistics

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        images = unlabeled.views[0]
        supervised = cross_entropy(self.student(labeled.views[0]), labeled.target).mean()
        with disable_dropout(self.student):
            with freeze_running_stats(self.student, not self.moves_statistics):
                clean = self.student(images)
            d = adversarial_direction(self.student, images, xi=self.xi, iterations=self.iterations)
            with freeze_running_stats(self.student):
                perturbed = self.student(images + self.epsilon * d)
        terms = {
            "consistency": (self.weight * self.ramp(step), softmax_kl(perturbed, clean).mean()),
            "entropy": (self.entropy_weight, entropy(clean).mean()),
        }
        return add_terms(supervised, terms)

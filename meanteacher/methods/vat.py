"""Virtual Adversarial Training (Miyato et al. 2018, arXiv 1704.03976)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from meanteacher import batchnorm
from meanteacher.batch import Labeled, StepOutput, Unlabeled, Views
from meanteacher.losses import cross_entropy, entropy, softmax_kl
from meanteacher.methods.base import Method
from meanteacher.schedules import Constant
from meanteacher.types import Annotated, NonNegativeFloat, PositiveFloat, PositiveInt


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
            with batchnorm.still(self.student):
                adversarial = self.student(images + self.epsilon * d)
        consistency = softmax_kl(adversarial, clean).mean()
        uncertainty = entropy(clean).mean()
        loss = supervised + self.weight * self.ramp(step) * consistency + self.entropy_weight * uncertainty
        metrics = {"supervised": supervised, "consistency": consistency, "entropy": uncertainty}
        return StepOutput(loss, {name: value.detach() for name, value in metrics.items()})


@torch.compiler.disable(recursive=False)  # the gradient is taken outside of the compiled code, the passes are in it
def direction(student: nn.Module, images: Tensor, *, xi: float, iterations: int) -> Tensor:
    """d / |d| for each image, float32. Running statistics and the weights' gradients are left as they are."""
    d = unit(torch.randn_like(images))
    with batchnorm.still(student), full_float32(images.device):
        with torch.no_grad():
            clean = student(images)
        for _ in range(iterations):
            r = (xi * d).requires_grad_()
            (gradient,) = torch.autograd.grad(softmax_kl(student(images + r), clean).sum(), r)
            d = unit(gradient)
    return d


def unit(d: Tensor) -> Tensor:
    """Each image's d / |d|; 0 stays 0."""
    return F.normalize(d.flatten(1), dim=1).view_as(d)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """No autocast, and on a GPU no TensorFloat-32 in convolutions, whose 10 bits would lose ξd as well."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


@contextmanager
def no_dropout(model: nn.Module) -> Iterator[None]:
    layers = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True

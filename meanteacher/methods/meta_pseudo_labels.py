"""Meta Pseudo Labels (Pham et al. 2021, arXiv 2003.10580)."""

import copy

import torch
from torch import Tensor, nn

from meanteacher.config.types import Decay, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.methods.base import Method, PseudoLabels, StepOutput, add_terms
from meanteacher.methods.common.improvement import improvement
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.passes import predict_together
from meanteacher.methods.common.weighting import Weighting
from meanteacher.optim.schedules import Constant


class MetaPseudoLabels(Method):
    """L = mean CE(student(v), p) + mean CE(tutor(x), y) + λ · r(s) · UDA + (h − h̄) · mean CE(tutor(v), argmax p).

    v: the strong view of u; p = softmax(tutor(v)), without gradient. The tutor is a second network, with the student's
    initial weights, that is trained by the same optimizer: the first term trains the student alone, and the others the
    tutor alone. UDA = mean w(q) · CE(tutor(v), softmax(z / T)), q = softmax(z), z = tutor(weak u) without gradient. h:
    the `improvement` of the student on the labeled images by a step on the first term with the learning rate
    student_rate; h̄: its running mean with baseline_decay, updated before it is used. λ: unlabeled_weight; r:
    unlabeled_ramp; T: temperature; w: weighting. The tutor's views share BatchNorm statistics; the student sees the
    strong views only. It is evaluated; the paper at last trains it on the labeled images, which is left out.
    """

    views = Views(labeled=("weak",), unlabeled=("weak", "strong"))
    fullgraph = False

    def __init__(
        self,
        *,
        student: nn.Module,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        weighting: Weighting,
        temperature: PositiveFloat,
        unlabeled_weight: NonNegativeFloat,
        unlabeled_ramp: Constant,
        student_rate: PositiveFloat,
        baseline_decay: Decay,
    ):
        super().__init__()
        self.student, self.tutor = student, copy.deepcopy(student)
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)
        self.temperature, self.weight, self.ramp = temperature, unlabeled_weight, unlabeled_ramp
        self.rate, self.decay = student_rate, baseline_decay
        self.register_buffer("baseline", torch.zeros(()))

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        x, strong = labeled.views[0], unlabeled.views[1]
        logits, weak, taught = predict_together(self.tutor, x, *unlabeled.views)
        supervised = cross_entropy(logits, labeled.target).mean()
        z, p = weak.detach().float(), taught.detach().float().softmax(dim=1)
        weight = self.weighting(z.softmax(dim=1), unlabeled.index)
        consistency = (weight * cross_entropy(taught, (z / self.temperature).softmax(dim=1))).mean()
        h = improvement(self.student, strong, p, x, labeled.target, rate=self.rate)
        terms = {
            "consistency": (self.weight * self.ramp(step), consistency),
            "feedback": (self.advantage(h), cross_entropy(taught, p.argmax(dim=1)).mean()),
            "student": (1.0, cross_entropy(self.student(strong), p).mean()),
        }
        metrics = {"kept": weight.mean(), "improvement": h} | self.weighting.metrics()
        return add_terms(supervised, terms, PseudoLabels(p, None), **metrics)

    @torch.compiler.disable  # a compiled gradient would read the running mean after it was overwritten
    def advantage(self, h: Tensor) -> Tensor:
        """h − h̄, 0-dim; updates h̄ first."""
        self.baseline.lerp_(h, 1 - self.decay)
        return h - self.baseline

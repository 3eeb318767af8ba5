"""Mean Teacher with two outputs, for residual networks (Tarvainen & Valpola 2017, arXiv 1703.01780)."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Literal, NonNegativeFloat, PositiveInt
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods.base import StepOutput, add_terms
from meanteacher.methods.common.ema import Teacher
from meanteacher.methods.common.losses import cross_entropy
from meanteacher.methods.common.weighting import Weighting
from meanteacher.methods.mean_teacher import MeanTeacher
from meanteacher.models.base import Network
from meanteacher.models.dual_output import DualOutput
from meanteacher.optim.schedules import Constant


class MeanTeacherDual(MeanTeacher):
    """L = mean CE(c(x), y) + λ(s) · mean d(z(u), c′(u′)) + logit_distance_weight · mean (c − z)².

    c and z are the student's class logits and the logits of a second head on the same features; c′ are the teacher's
    class logits. Symbols and arguments that are not named here are those of `MeanTeacher`, with
    all images in one pass. The consistency term trains
    the second head, which the last term ties to the class head (weight 0.01 in the paper). That term is a mean over
    classes and over all images of the student's batch, labeled and unlabeled, with gradient to both heads. The class
    logits of student and teacher are evaluated.
    """

    needs_features = True

    def __init__(
        self,
        *,
        student: Network,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        teacher: Teacher,
        consistency: Literal["mse", "kl"],
        consistency_weight: NonNegativeFloat,
        consistency_ramp: Constant,
        consistency_on_labeled: bool,
        student_view: Literal["weak", "strong"],
        labeled_view: Literal["weak", "strong"],
        weighting: Weighting | None,
        logit_distance_weight: NonNegativeFloat,
    ):
        super().__init__(
            student=DualOutput(student, num_classes),
            num_classes=num_classes,
            num_images=num_images,
            teacher=teacher,
            consistency=consistency,
            consistency_weight=consistency_weight,
            consistency_ramp=consistency_ramp,
            consistency_on_labeled=consistency_on_labeled,
            student_view=student_view,
            labeled_view=labeled_view,
            weighting=weighting,
            passes="together",
        )
        self.logit_distance_weight = logit_distance_weight

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        n = len(labeled.target)
        logits, second = self.student.both(torch.cat([labeled.views[0], unlabeled.views[0]]))
        supervised = cross_entropy(logits[:n], labeled.target).mean()
        consistency, pseudo_labels = self.consistency(second[:n], second[n:], labeled, unlabeled)
        distance = (logits.float() - second.float()).square().mean()
        terms = {
            "consistency": (self.weight * self.ramp(step), consistency),
            "logit_distance": (self.logit_distance_weight, distance),
        }
        return add_terms(supervised, terms, pseudo_labels)

    def eval_models(self) -> dict[str, nn.Module]:
        return {name: model.network for name, model in super().eval_models().items()}

"""The base class of all methods, and the check that a method works with a network, an augmentation and images."""

import copy
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.data.batch import Labeled, Unlabeled, Views


@dataclass(frozen=True)
class StepOutput:
    """The result of a training step.

    loss: 0-dim float32, with gradient. metrics: 0-dim tensors by name, averaged over the log interval and logged as
    `train/<name>`; the training step detaches them.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A semi-supervised method. Networks and running state are submodules and buffers: `state_dict()` holds all of it.

    Constructor: keyword arguments without defaults. Of `student` (the network), `num_classes` and `num_images` (of the
    training part, for buffers with an entry per image) it receives those that it names; all others come from the yaml
    file. A training step contains no host–device synchronization and no data-dependent shape: masks are weights. A
    method with a teacher assigns a bound `Teacher` to `self.teacher`, which is then updated and evaluated.
    """

    student: nn.Module

    views: Views
    """Names of the augmented views of labeled and unlabeled images that `training_step` receives."""

    fullgraph = True
    """Whether torch.compile can compile `training_step` as one graph; False if it computes a gradient itself."""

    needs_feature_map = False
    """Whether the method needs a student with `Network.has_feature_map`."""

    needs_square_images = False

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        """The loss of one step. step: 0-dim float32, counted from 0."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        """Called after the optimizer's step; updates the teacher if there is one. step: as in `training_step`."""
        if (teacher := getattr(self, "teacher", None)) is not None:
            teacher.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        """The networks to evaluate by name; the last one is the network to deploy."""
        teacher = getattr(self, "teacher", None)
        return {"student": self.student} | ({} if teacher is None else {"teacher": teacher.model})


def add_terms(supervised: Tensor, terms: dict[str, tuple[float | Tensor, Tensor]], **metrics: Tensor) -> StepOutput:
    """The loss supervised + Σ weight · term, and as metrics the unweighted terms and any further ones.

    terms: a weight and a 0-dim term by name.
    """
    loss = supervised
    for weight, term in terms.values():
        loss = loss + weight * term
    return StepOutput(loss, {"supervised": supervised} | {name: term for name, (_, term) in terms.items()} | metrics)


def check_combination(method: Method, view_names: Collection[str], shape: tuple[int, int, int] | None) -> None:
    """Check that a method works with its student, the augmentation and the images.

    view_names: the views that the augmentation makes. shape: [C, H, W] of the images, or None before they are loaded.
    Raises UserError if the augmentation does not make a view that the method needs, if the method needs a feature map
    that the student does not have or square images, or if the student cannot process images of this shape.
    """
    name, network = type(method).__name__, type(method.student).__name__
    for view in (*method.views.labeled, *method.views.unlabeled):
        if view not in view_names:
            example = "; for example, augment=standard has it" if view in ("weak", "strong") else ""
            raise UserError(
                f"method: {name} needs the augmented view {view!r}, but the augmentation has only "
                f"{', '.join(view_names)}{example}"
            )
    if method.needs_feature_map and not getattr(method.student, "has_feature_map", False):
        raise UserError(
            f"method: {name} needs the feature map [B, C, H, W] of a convolutional network, "
            f"but the features of this {network} have another shape"
        )
    if shape is None:
        return
    if method.needs_square_images and shape[1] != shape[2]:
        raise UserError(f"method: {name} needs square images; these are {shape[1]}×{shape[2]}")
    check_images(method.student, shape)


def check_images(student: nn.Module, shape: tuple[int, int, int]) -> None:
    """Check by a forward pass of one image, through a copy in evaluation mode, that images have a supported shape.

    No random numbers are drawn. shape: [C, H, W]. Raises UserError if the network cannot process such images.
    """
    device = next((parameter.device for parameter in student.parameters()), None)
    try:
        with torch.no_grad():
            copy.deepcopy(student).eval()(torch.zeros(1, *shape, device=device))
    except (AssertionError, RuntimeError, ValueError) as error:
        size, reason = "×".join(map(str, shape)), str(error).partition("\n")[0]
        raise UserError(f"model: {type(student).__name__} cannot process images of {size} ({reason})") from None

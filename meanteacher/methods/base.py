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
    """What `Method.training_step` returns.

    loss: 0-dim tensor with gradient. metrics: 0-dim tensors by name, averaged over the log interval and logged as
    `train/<name>`; the training step detaches them.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A semi-supervised method. Networks and running state are submodules and buffers, so `state_dict()` is all of it.

    The constructor takes keyword arguments without defaults: the values of the method's yaml, and those of `student` (the
    network), `num_classes` and `num_images` (of the training part, for buffers with a row per image) that it names.
    A step performs no host–device synchronization and has no data-dependent shapes: masks are weights.
    """

    student: nn.Module
    views: Views
    needs_feature_map: bool = False
    """Whether the method needs a student with `Network.has_feature_map`."""

    fullgraph = True
    """Whether torch.compile captures `training_step` as one graph; False if the step takes a gradient of its own."""

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        """The loss of one step. step: 0-dim float32 tensor, counted from 0."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        """Called after the optimizer has made step `step`, for example to update a teacher."""

    def eval_models(self) -> dict[str, nn.Module]:
        """The networks to evaluate by name, the one to deploy last."""
        return {"student": self.student}


def check_combination(method: Method, view_names: Collection[str], shape: tuple[int, int, int] | None) -> None:
    """Check that a method works with its student, the augmentation and the images.

    view_names: the views that the augmentation makes. shape: [C, H, W] of the images, or None before they are loaded.
    Raises UserError if the augmentation does not make a view that the method needs, if the method needs a feature map
    that the student does not have, or if the student cannot process images of this shape.
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
    if shape is not None:
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

"""The check that a method works with a network, an augmentation and images."""

import copy
from collections.abc import Collection

import torch
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.methods.base import Method
from meanteacher.models.base import Network


def check_combination(method: Method, view_names: Collection[str], shape: tuple[int, int, int] | None) -> None:
    """Check that a method works with its student, the augmentation and the images.

    view_names: the views that the augmentation makes. shape: [C, H, W] of the images, or None before they are loaded.
    Raises UserError if the augmentation does not make a view that the method needs, if the method needs a feature map
    that the student does not have or square images, or if the student cannot process images of this shape.
    """
    student = method.eval_models()["student"]  # without a second head that the method may have added
    name, network = type(method).__name__, type(student).__name__
    for view in (*method.views.labeled, *method.views.unlabeled):
        if view not in view_names:
            example = "; for example, augment=standard has it" if view in ("weak", "medium", "strong") else ""
            raise UserError(
                f"method: {name} needs the augmented view {view!r}, but the augmentation has only "
                f"{', '.join(view_names)}{example}"
            )
    if method.needs_features and getattr(type(student), "features", Network.features) is Network.features:
        raise UserError(
            f"method: {name} needs a network that implements `features`, which {network} does not; "
            "see meanteacher.models.Network"
        )
    if method.needs_feature_map and not getattr(student, "has_feature_map", False):
        raise UserError(
            f"method: {name} needs the feature map [B, C, H, W] of a convolutional network, "
            f"but the features of this {network} have another shape"
        )
    if shape is None:
        return
    if method.needs_square_images and shape[1] != shape[2]:
        raise UserError(f"method: {name} needs square images; these are {shape[1]}×{shape[2]}")
    check_images(student, shape)


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

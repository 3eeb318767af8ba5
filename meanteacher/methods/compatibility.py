"""Refusal of combinations of method, network, augmentation and image size that cannot train, before any data is loaded."""

import copy
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import torch
import yaml
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.locations import CONF
from meanteacher.config.settings import Choices
from meanteacher.methods.base import Method
from meanteacher.models.base import Network
from meanteacher.models.dual_output import DualOutput

TYPICAL_SHAPES = ((3, 32, 32), (1, 32, 32), (3, 224, 224), (1, 224, 224))
"""Image shapes to try while the data set is unknown."""


def check_combination(
    method: Method, choices: Choices, *, views: Collection[str], image_shape: tuple[int, int, int] | None
) -> None:
    """Raise UserError if the method cannot train with this augmentation, this network and images of this shape.

    method: built on any device, also under `torch.device("meta")`; neither it nor a random generator is changed.
    choices: names for the message. views: names of the augmentation's views. image_shape: (channels, height, width), or None
    while the data set is unknown. The network of a method that needs features is then checked with a typical shape.
    """
    name = f"method={choices.method or type(method).__name__}"
    model = f"model={choices.model or type(method.student).__name__}"
    check_views(method, name, views, choices.augment)
    if method.needs_features and not gives_features(method.student):
        raise UserError(
            f"{name} needs a network that defines features and head, as meanteacher.models.Network; {model} does not"
        )
    if image_shape is not None:
        if method.needs_square_images and image_shape[1] != image_shape[2]:
            raise UserError(f"{name} needs square images; these are {image_shape[1]}×{image_shape[2]}")
        check_shapes(method, name, model, run_network(method, model, image_shape))
    elif method.needs_features:
        for shape in TYPICAL_SHAPES:
            with suppress(UserError):
                outputs = run_network(method, model, shape)
                break
        else:
            return
        check_shapes(method, name, model, outputs)


def check_views(method: Method, name: str, views: Collection[str], augment: str | None) -> None:
    """Raise UserError for the first view that the method needs and the augmentation lacks."""
    for view in (*method.views.labeled, *method.views.unlabeled):
        if view not in views:
            options = " or ".join(augmentations_with(view))
            advice = f"use augment={options}" if options else "add it to the views of the yaml file"
            raise UserError(f"{name} needs the view {view}, which augment={augment} does not have; {advice}")


def augmentations_with(view: str) -> list[str]:
    """The options of conf/augment that have this view."""
    nodes = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "augment").glob("*.yaml"))}

    def has_view(node: dict) -> bool:
        inherited = [nodes[option] for option in node.get("defaults", []) if option in nodes]
        return view in node.get("views", {}) or any(map(has_view, inherited))

    return [name for name, node in nodes.items() if has_view(node)]


def gives_features(network: nn.Module) -> bool:
    """Whether the network, or the network inside of a `DualOutput`, defines `features` and `head`."""
    if isinstance(network, DualOutput):
        return gives_features(network.network)
    parts = [getattr(type(network), part, None) for part in ("features", "head")]
    return None not in parts and not {Network.features, Network.head} & set(parts)


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network for two images. features, pooled: None if the method does not need them."""

    logits: Tensor
    features: Tensor | None = None
    pooled: Tensor | None = None


def run_network(method: Method, model: str, shape: tuple[int, int, int]) -> Outputs:
    """The outputs of a copy of the network on the CPU, with arbitrary values. Raises UserError if it does not accept the shape.

    The meta device would compute shapes alone, but its first operation imports modules for several seconds.
    """
    network = copy.deepcopy(method.student).to_empty(device="cpu").train()
    images = torch.zeros(2, *shape)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.zero_()
            if not method.needs_features:
                return Outputs(network(images))
            features = network.features(images)
            return Outputs(network.head(features), features, network.pool(features))
    except UserError:
        raise
    except Exception as error:
        size = "×".join(map(str, shape))
        raise UserError(f"{model} cannot process images of {size}: {' '.join(str(error).split())}") from None


def check_shapes(method: Method, name: str, model: str, outputs: Outputs) -> None:
    """Raise UserError if the network's outputs do not have the shapes that the method needs."""
    if not isinstance(outputs.logits, Tensor) or outputs.logits.ndim != 2:
        raise UserError(f"{model} does not return logits of the shape [B, classes]")
    if outputs.features is None:
        return
    channels, shape = method.student.feature_channels, outputs.features.shape
    given = "[" + ", ".join(map(str, ("B", *shape[1:]))) + "]"
    if method.needs_feature_map and (len(shape) != 4 or shape[1] != channels):
        raise UserError(f"{name} needs a feature map [B, {channels}, h, w]; the features of {model} are {given}")
    if outputs.pooled.shape != (2, channels):
        raise UserError(f"{model}: its features {given} are not pooled to feature_channels={channels}")

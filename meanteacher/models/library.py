"""Networks of timm and torchvision, chosen by name, with trained weights or newly initialized."""

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from meanteacher.config.checks import nearest
from meanteacher.config.errors import UserError
from meanteacher.config.types import Literal, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.layers import split_layers
from meanteacher.models.pretrained import PRETRAINED, torchvision_state
from meanteacher.models.timm_weights import create_timm, import_timm, load_timm, timm_input
from meanteacher.models.weights import WeightsInput, load_fitting, read_weights

INSEPARABLE = ("googlenet", "inception_v3", "maxvit_t", "squeezenet1_0", "squeezenet1_1")
"""Classifiers of torchvision with auxiliary outputs in training, or whose classifier contains the pooling."""


class LibraryNetwork(Network):
    """A network whose layers are in `network`, trained as a whole or at its last layer alone."""

    frozen = False

    def freeze(self, classifier: nn.Module, weights: str | None) -> None:
        """Freeze all but the last layer of `classifier`. Raises UserError without weights."""
        if not weights:
            raise UserError(
                "model.train=probe trains a linear layer on trained features: set model.weights=FILE or pretrained"
            )
        layers = [layer for layer in classifier.modules() if any(True for _ in layer.parameters(recurse=False))]
        self.frozen = True
        self.requires_grad_(False)
        layers[-1].requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Frozen features stay in evaluation mode: their running statistics do not move, and they have no dropout."""
        return super().train(mode and not self.frozen)


class Timm(LibraryNetwork):
    """A network of timm.

    name: as in `timm.list_models()`, with the tag of its weights if there are several (`resnet18.a1_in1k`). image_size:
    the height and width of the images for networks that are built for one size, such as most vision transformers; null
    for the default of the network. weights: `pretrained` for timm's own, or a file for `read_weights`. normalization:
    by the mean and std that the weights were trained with, from a config.json beside the file or else from timm, or by
    those of the data. train: `all` trains every layer; `probe` trains the last linear layer on frozen features.
    Raises UserError if timm is not installed, or if the name, the image size or the weights are not usable.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        name: str,
        image_size: PositiveInt | None,
        weights: str | None,
        normalization: Literal["weights", "data"],
        train: Literal["all", "probe"],
    ):
        super().__init__()
        timm = import_timm(name)
        self.name, size = name, {} if image_size is None else {"img_size": image_size}
        arguments = {"in_chans": channels, "num_classes": classes}
        self.network = create(timm.create_model, name, size, **arguments)
        if weights == PRETRAINED:
            self.network = create_timm(name, **arguments, **size)
        elif weights:
            load_timm(self.network, Path(weights), channels)
        if weights and normalization == "weights":
            self.weights_input = timm_input(self.network, weights).for_channels(channels)
        config = self.network.pretrained_cfg
        self.feature_channels, self.has_fixed_size = self.network.num_features, config.get("fixed_input_size", False)
        self.default_shape = channels, *config["input_size"][1:]
        if image_size is not None:
            self.default_shape = channels, image_size, image_size
        if train == "probe":
            self.freeze(self.network.get_classifier(), weights)

    @cached_property
    def has_feature_map(self) -> bool:
        """Determined by a forward pass of one image, because the networks of timm do not declare the layout."""
        network = copy.deepcopy(self.network).eval()
        device = next(network.parameters()).device
        with torch.no_grad():
            features = network.forward_features(torch.zeros(1, *self.default_shape, device=device))
        return features.ndim == 4 and features.shape[1] == self.feature_channels

    def features(self, images: Tensor) -> Tensor:
        """The output of timm's `forward_features`: a feature map, channels-last features or tokens.

        Raises UserError if the network was built for images of another size.
        """
        built, (height, width) = self.default_shape[1:], images.shape[2:]
        if self.has_fixed_size and (height, width) != built:
            fix = f"set model.image_size={height}" if height == width else "use square images and model.image_size"
            raise UserError(
                f"model: {self.name} is built for images of {built[0]}×{built[1]} pixels and cannot process "
                f"{height}×{width}; {fix}, to which loaded position embeddings are resized"
            )
        return self.network.forward_features(images)

    def head(self, features: Tensor) -> Tensor:
        return self.network.forward_head(features)

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """As timm groups them for its own layer-wise learning rates (`group_matcher` of each of its networks)."""
        from timm.models import group_parameters

        depths = group_parameters(self.network, self.network.group_matcher(coarse=False), reverse=True)
        layers = [[] for _ in range(max(depths.values()) + 1)]
        for name, parameter in self.network.named_parameters():
            layers[depths.get(name, -1)].append(parameter)
        return layers


class Torchvision(LibraryNetwork):
    """A classifier of torchvision for color images (C = 3).

    name: as in `torchvision.models.list_models()`. image_size: the height and width of the images for a vision
    transformer (`vit_b_16`, …); null for its default and for all other networks. weights: `pretrained` for
    torchvision's own (its `DEFAULT`), or a file for `read_weights`. normalization: by the mean and std that
    torchvision's weights were trained with, or by those of the data. train: `all` trains every layer; `probe` trains
    the last linear layer on frozen features.
    Raises UserError if the images do not have three channels, if the network cannot be split into features and head, or
    if the name, the image size or the weights are not usable.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        name: str,
        image_size: PositiveInt | None,
        weights: str | None,
        normalization: Literal["weights", "data"],
        train: Literal["all", "probe"],
    ):
        super().__init__()
        from torchvision import models

        if name not in (known := models.list_models(module=models)):
            raise UserError(f"model.name={name}: torchvision has no such classifier{nearest(name, known)}")
        if name in INSEPARABLE:
            raise UserError(f"model.name={name}: this network cannot be split into features and head; use another one")
        if channels != 3:
            raise UserError(
                f"model=torchvision needs images with 3 channels, but these have {channels}; use model=timm"
            )
        size = {} if image_size is None else {"image_size": image_size}
        self.network = create(models.get_model, name, size, num_classes=classes)
        names = [name for name, _ in self.network.named_children()]
        self.extractor_names = names[: names.index("avgpool") if "avgpool" in names else -1]
        self.classifier_name = names[-1]
        self.has_feature_map = not isinstance(self.network, models.VisionTransformer)
        self.flattens = not isinstance(self.network, models.ConvNeXt)
        self.rectifies = isinstance(self.network, models.DenseNet)
        self.feature_channels = self.count_feature_channels()
        if weights:
            self.load(name, weights, normalization)
        if train == "probe":
            self.freeze(self.network.get_submodule(self.classifier_name), weights)

    def load(self, name: str, weights: str, normalization: str) -> None:
        """Load the weights; a vision transformer's position embedding is resized to its image size.

        Raises UserError if they cannot be loaded.
        """
        from torchvision import models

        source, tensors = torchvision_state(name) if weights == PRETRAINED else (weights, read_weights(Path(weights)))
        if isinstance(self.network, models.VisionTransformer) and "encoder.pos_embedding" in tensors:
            size, patch = self.network.image_size, self.network.patch_size
            tensors = models.vision_transformer.interpolate_embeddings(size, patch, dict(tensors))
        load_fitting(self.network, tensors, source)
        if normalization == "weights":
            transforms = models.get_model_weights(name).DEFAULT.transforms()
            size = transforms.crop_size[0], transforms.crop_size[0]
            self.weights_input = WeightsInput(source, tuple(transforms.mean), tuple(transforms.std), size)

    def count_feature_channels(self) -> int:
        """The number of inputs of the classifier, divided by the positions that remain after pooling."""
        if not self.has_feature_map:
            return self.network.hidden_dim
        first = next(self.network.get_submodule(self.classifier_name).parameters())
        size = self.network.avgpool.output_size if hasattr(self.network, "avgpool") else 1
        return first.shape[-1] // (size[0] * size[1] if isinstance(size, tuple) else size**2)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map; for a vision transformer the tokens after the encoder, the class token first.

        Raises UserError if a vision transformer was built for images of another size.
        """
        if not self.has_feature_map:
            return self.encode(images)
        for name in self.extractor_names:
            images = self.network.get_submodule(name)(images)
        return images.relu() if self.rectifies else images

    def encode(self, images: Tensor) -> Tensor:
        """The tokens of a vision transformer after its encoder: [B, 1 + N, feature_channels]."""
        network, (height, width) = self.network, images.shape[2:]
        if (height, width) != (network.image_size,) * 2:
            raise UserError(
                f"model.image_size={network.image_size}: this network cannot process images of {height}×{width} pixels"
            )
        tokens = network.conv_proj(images).flatten(2).transpose(1, 2)
        return network.encoder(torch.cat([network.class_token.expand(len(tokens), -1, -1), tokens], 1))

    def head(self, features: Tensor) -> Tensor:
        classifier = self.network.get_submodule(self.classifier_name)
        if not self.has_feature_map:
            return classifier(features[:, 0])
        pool = self.network.avgpool if hasattr(self.network, "avgpool") else self.pool
        features = pool(features)
        return classifier(features.flatten(1) if self.flattens else features)

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """By the order of the blocks: the children of the network and of its sequences, or of its encoder."""
        from torchvision.models.vision_transformer import Encoder

        return split_layers(self.network, (nn.Sequential, Encoder))


def create(builder: Callable[..., nn.Module], name: str, size: dict[str, int], **arguments: Any) -> nn.Module:
    """The network that the library's `builder` returns. size: its argument for the image size, or empty.

    Raises UserError if the network does not support this image size.
    """
    try:
        return builder(name, **arguments, **size)
    except (AssertionError, TypeError, ValueError) as error:
        if not size:
            raise
        (pixels,) = size.values()
        raise UserError(f"model.image_size={pixels}: {name} does not support this size ({error})") from None

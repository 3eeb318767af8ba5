"""Networks of timm and torchvision, chosen by name, with weights from a local file or newly initialized."""

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

INSEPARABLE = ("googlenet", "inception_v3", "maxvit_t", "squeezenet1_0", "squeezenet1_1")
"""Classifiers of torchvision with auxiliary outputs in training, or whose classifier contains the pooling."""


class LibraryNetwork(Network):
    """A network whose layers are in `network`, trained as a whole or at its last layer alone."""

    frozen = False

    def load(self, weights: str | None, train: str, classifier: nn.Module) -> None:
        """Load the file of weights, if any, and freeze all but the last layer of `classifier` for train=`probe`.

        Raises UserError for a probe without weights.
        """
        if weights:
            load_weights(self.network, Path(weights))
        if train == "probe":
            if not weights:
                raise UserError("model.train=probe trains a linear layer on trained features: set model.weights=FILE")
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

    name: as in `timm.list_models()`. image_size: the height and width of the images for networks that are built for one
    size, such as most vision transformers; null for the default of the network. weights: a file for `load_weights`.
    train: `all` trains every layer; `probe` trains the last linear layer on frozen features.
    Raises UserError if timm is not installed, or if the name, the image size or the file is not usable.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        name: str,
        image_size: PositiveInt | None,
        weights: str | None,
        train: Literal["all", "probe"],
    ):
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError("model=timm needs the package timm: pip install -e '.[timm]'") from None
        if not timm.is_model(name):
            raise UserError(f"model.name={name}: timm has no such network{nearest(name, timm.list_models())}")
        size = {} if image_size is None else {"img_size": image_size}
        self.network = create(timm.create_model, name, size, in_chans=channels, num_classes=classes)
        self.feature_channels = self.network.num_features
        self.default_shape = channels, *self.network.pretrained_cfg["input_size"][1:]
        if image_size is not None:
            self.default_shape = channels, image_size, image_size
        self.load(weights, train, self.network.get_classifier())

    @cached_property
    def has_feature_map(self) -> bool:
        """Determined by a forward pass of one image, because the networks of timm do not declare the layout."""
        network = copy.deepcopy(self.network).eval()
        device = next(network.parameters()).device
        with torch.no_grad():
            features = network.forward_features(torch.zeros(1, *self.default_shape, device=device))
        return features.ndim == 4 and features.shape[1] == self.feature_channels

    def features(self, images: Tensor) -> Tensor:
        """The output of timm's `forward_features`: a feature map, channels-last features or tokens."""
        return self.network.forward_features(images)

    def head(self, features: Tensor) -> Tensor:
        return self.network.forward_head(features)


class Torchvision(LibraryNetwork):
    """A classifier of torchvision for color images (C = 3).

    name: as in `torchvision.models.list_models()`. image_size: the height and width of the images for a vision
    transformer (`vit_b_16`, …); null for its default and for all other networks. weights: a file for `load_weights`.
    train: `all` trains every layer; `probe` trains the last linear layer on frozen features.
    Raises UserError if the images do not have three channels, if the network cannot be split into features and head, or
    if the name, the image size or the file is not usable.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        name: str,
        image_size: PositiveInt | None,
        weights: str | None,
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
        self.load(weights, train, self.network.get_submodule(self.classifier_name))

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


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights from a .pth or .safetensors file, except for tensors of another shape.

    Thus a classifier for another number of classes keeps its initialization.
    Raises UserError if the file cannot be read, or if less than half of the network's tensors are in it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            stored = load_file(path, device="cpu")
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"model.weights={path}: cannot be read ({str(error).splitlines()[0]})") from None
    own = network.state_dict()
    fitting = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) // 2:
        raise UserError(
            f"model.weights={path}: only {len(fitting)} of the network's {len(own)} tensors are in this file with the "
            "same shape; does it belong to another network?"
        )
    network.load_state_dict(fitting, strict=False)

"""Networks of timm and torchvision by name, optionally with weights from a local file."""

import difflib
from pathlib import Path

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveInt
from meanteacher.models.base import Network

UNSUPPORTED = ("googlenet", "inception", "squeezenet")
"""torchvision's networks that return more than logits in training mode, or that have no linear classifier."""


class Timm(Network):
    """A network of timm: float [B, channels, H, W] → logits [B, classes].

    Features are those of timm's `forward_features`: a map [B, C, h, w], or tokens [B, N, C] for vision transformers, or a
    map [B, h, w, C] for Swin transformers. weights: a .pth or .safetensors file, or null; see `load_weights`.
    Raises UserError if timm is not installed, for an unknown name, or for a file that does not fit.
    """

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt, name: str, weights: str | None):
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError("model=timm needs the package timm: pip install -e '.[timm]'") from None
        if not timm.is_model(name):
            raise UserError(f"model.name={name}: timm has no such network{suggestion(name, timm.list_models())}")
        self.network = timm.create_model(name, in_chans=channels, num_classes=classes)
        self.feature_channels = self.network.num_features
        if weights:
            load_weights(self.network, Path(weights))

    def features(self, images: Tensor) -> Tensor:
        return self.network.forward_features(images)

    def head(self, features: Tensor) -> Tensor:
        return self.network.forward_head(features)


class Torchvision(Network):
    """A classifier of torchvision for color images: float [B, 3, H, W] → logits [B, classes].

    Networks with a pooling layer `avgpool` are split in front of it, so features are a map [B, C, h, w]; all others are
    split in front of their classifier, so features are vectors [B, C], or a map for MaxViT.
    weights: a .pth or .safetensors file, or null; see `load_weights`.
    Raises UserError for an unknown or unsupported name, for images that are not color images, or for a file that does not
    fit.
    """

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt, name: str, weights: str | None):
        super().__init__()
        from torchvision import models

        known = [model for model in models.list_models(module=models) if not model.startswith(UNSUPPORTED)]
        if name not in known:
            raise UserError(f"model.name={name}: model=torchvision offers no such classifier{suggestion(name, known)}")
        if channels != 3:
            raise UserError(f"model=torchvision takes color images only, these have {channels} channel; use model=timm")
        try:
            self.network = models.get_model(name, num_classes=classes)
        except NotImplementedError:  # RegNet computes sizes with tensors, which have no values on the meta device
            with torch.device("cpu"):
                self.network = models.get_model(name, num_classes=classes)
        if weights:
            load_weights(self.network, Path(weights))
        self.split()

    def split(self) -> None:
        """Find the parts of the network: its body, its pooling layer and its classifier."""
        names = [child for child, _ in self.network.named_children()]
        classifier = getattr(self.network, names[-1])
        linear = next(module for module in classifier.modules() if isinstance(module, nn.Linear))
        if "avgpool" in names:
            self.body, self.last = names[: names.index("avgpool")], names[-1]
            size = self.network.avgpool.output_size
            self.feature_channels = linear.in_features // (size**2 if isinstance(size, int) else size[0] * size[1])
            self.flatten = not any(isinstance(module, nn.Flatten) for module in classifier.modules())
        else:
            self.body, self.classifier, self.feature_channels = [], classifier, linear.in_features
            setattr(self.network, names[-1], nn.Identity())

    def features(self, images: Tensor) -> Tensor:
        if not self.body:
            return self.network(images)
        for name in self.body:
            images = getattr(self.network, name)(images)
        return images

    def head(self, features: Tensor) -> Tensor:
        if not self.body:
            return self.classifier(features)
        pooled = self.network.avgpool(features)
        return getattr(self.network, self.last)(pooled.flatten(1) if self.flatten else pooled)


def suggestion(name: str, known: list[str]) -> str:
    """The end of an error message that suggests up to three of the known names."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known[:8])}, …"


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a file's tensors into the network. Tensors of another shape are skipped, such as a classifier of other classes.

    Raises UserError if the file cannot be read or if fewer than half of the network's tensors are in it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"model.weights={path}: cannot be read ({str(error).splitlines()[0]})") from None
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) // 2:
        raise UserError(
            f"model.weights={path}: only {len(fitting)} of {len(own)} tensors fit; does it belong to another network?"
        )
    if not any(tensor.is_meta for tensor in own.values()):
        network.load_state_dict(fitting, strict=False)

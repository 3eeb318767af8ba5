"""Networks of other libraries by their name, with weights from a local file where one is given."""

from pathlib import Path

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveInt


class Timm(nn.Module):
    """A network of timm: float [B, channels, H, W] → logits [B, classes]. weights: a .pth or .safetensors file, or null.

    Weights of another number of classes are taken for all but the classifier.
    Raises UserError for an unknown name, a missing extra, or a file that does not fit.
    """

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt, name: str, weights: str | None):
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError("model=timm needs the package timm: pip install -e '.[timm]'") from None
        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise UserError(f"model.name={name}: timm has no such network; {close}")
        self.network = timm.create_model(name, in_chans=channels, num_classes=classes)
        self.feature_channels = self.network.num_features
        if weights:
            load(self.network, Path(weights))

    def features(self, images: Tensor) -> Tensor:
        return self.network.forward_features(images)

    def head(self, features: Tensor) -> Tensor:
        return self.network.forward_head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Torchvision(nn.Module):
    """A classifier of torchvision for colour images: float [B, 3, H, W] → logits [B, classes]. It gives no feature map.

    weights: as `Timm`. Raises UserError for an unknown name, for images of another number of channels, or a file that does not fit.
    """

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt, name: str, weights: str | None):
        super().__init__()
        from torchvision import models

        if name not in (known := models.list_models(module=models)):
            raise UserError(f"model.name={name}: torchvision has no such classifier; {', '.join(known[:8])}, …")
        if channels != 3:
            raise UserError(
                f"model=torchvision takes colour images only, these have {channels} channel; use model=timm"
            )
        self.network = models.get_model(name, num_classes=classes)
        if weights:
            load(self.network, Path(weights))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def load(network: nn.Module, path: Path) -> None:
    """Weights from a file; those of another shape, as a classifier's for other classes, are left as they are."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"model.weights={path}: cannot be read ({str(error).splitlines()[0]})") from None
    mine = network.state_dict()
    fitting = {name: value for name, value in found.items() if name in mine and mine[name].shape == value.shape}
    if len(fitting) < len(mine) // 2:
        raise UserError(
            f"model.weights={path}: only {len(fitting)} of {len(mine)} tensors fit; is it another network's?"
        )
    network.load_state_dict(fitting, strict=False)

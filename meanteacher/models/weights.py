"""Weights from files: reading them, fitting them to a network, and how their training normalized images."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError, first_line

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")
"""Keys under which training programs keep the weights in their checkpoints, the averaged weights first."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before each name."""


class WeightsInput(NamedTuple):
    """The images that weights were trained on: (x − mean) / std per channel, x in [0, 1], of `size` (height, width)."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]

    def for_channels(self, channels: int) -> "WeightsInput":
        """The same for images with another number of channels, each with the mean of the values."""
        if channels == len(self.mean):
            return self
        mean, std = ((sum(values) / len(values),) * channels for values in (self.mean, self.std))
        return self._replace(mean=mean, std=std)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, without a checkpoint's wrapping and without prefixes.

    Raises UserError if the file cannot be read or holds no named tensors. Only tensors and builtins are unpickled.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            stored = load_file(path, device="cpu")
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"model.weights={path}: cannot be read ({first_line(error)})") from None
    if isinstance(stored, dict):
        inner = next((stored[key] for key in WRAPPERS if isinstance(stored.get(key), dict)), stored)
        tensors = {strip(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise UserError(
        f"model.weights={path}: holds a {type(stored).__name__} without named tensors; save network.state_dict()"
    )


def strip(name: str) -> str:
    """The name without `PREFIXES`."""
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def load_fitting(network: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load the tensors that have the name and the shape of one of the network's.

    Thus a classifier for another number of classes keeps its initialization.
    Raises UserError if less than half of the network's tensors are among them. source: named in the message.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) // 2:
        raise UserError(
            f"model.weights={source}: only {len(fitting)} of the network's {len(own)} tensors are in this file with "
            "the same shape; does it belong to another network?"
        )
    network.load_state_dict(fitting, strict=False)


def read_config(path: Path) -> dict:
    """The `pretrained_cfg` of the config.json beside a file of weights, as the Hugging Face hub has it; {} without one.

    Raises UserError if there is a config.json that cannot be read.
    """
    file = path.with_name("config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return dict(config.get("pretrained_cfg", {}))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{file}: cannot be read as the configuration of {path.name} ({error}); mend or move it"
        ) from None

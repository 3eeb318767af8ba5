"""The weights that a library offers for its networks: from a cache on this machine, or downloaded."""

import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from meanteacher.config.errors import UserError, first_line

PRETRAINED = "pretrained"
"""The value of `weights` for the weights that the library itself offers for the network."""


def torchvision_state(name: str) -> tuple[str, dict[str, Tensor]]:
    """The name of torchvision's own weights for a network, and their tensors.

    Raises UserError if they are neither in torch.hub's cache nor can be downloaded.
    """
    from torch.hub import get_dir
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    cached = Path(get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    if not cached.exists() and not is_reachable(weights.url):
        raise UserError(describe_missing(name, weights.url, "no network"))
    try:
        return str(weights), weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(describe_missing(name, weights.url, first_line(error))) from None


def is_reachable(url: str) -> bool:
    """Whether the host's address is known, or a proxy is set. Without it, the hub would try again for a minute."""
    try:
        return bool(urllib.request.getproxies() or socket.getaddrinfo(urlsplit(url).hostname, 443))
    except OSError:
        return False


def describe_missing(name: str, page: str, reason: str) -> str:
    """One line on weights that could not be loaded, and what to do about it."""
    return (
        f"model.weights=pretrained: the weights of {name} could not be loaded ({reason}); download the file from "
        f"{page} on a machine with a network, and set model.weights=FILE"
    )

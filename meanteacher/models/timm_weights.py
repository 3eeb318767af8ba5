"""Weights of timm's networks: its own, from the Hugging Face hub's cache or downloaded, or those of a file."""

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from meanteacher.config.checks import nearest
from meanteacher.config.errors import UserError, first_line
from meanteacher.models.pretrained import PRETRAINED, describe_missing, is_reachable
from meanteacher.models.weights import WeightsInput, load_fitting, read_config, read_weights


def import_timm(name: str) -> Any:
    """The package. Raises UserError if it is not installed, or has no network or no weights of this name."""
    try:
        import timm
    except ImportError:
        raise UserError("model=timm needs the package timm: pip install -e '.[timm]'") from None
    if not timm.is_model(name):
        raise UserError(f"model.name={name}: timm has no such network{nearest(name, timm.list_models())}")
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        architecture = name.partition(".")[0]
        tags = timm.list_pretrained(f"{architecture}.*")
        raise UserError(f"model.name={name}: timm has no such weights of {architecture}{nearest(name, tags)}") from None
    return timm


def create_timm(name: str, **arguments: Any) -> nn.Module:
    """timm's network with its own weights, which timm adapts to the image size, the channels and the classes.

    Raises UserError if timm has no weights for it, or if they are neither in a cache nor can be downloaded.
    """
    import timm

    config = timm.get_pretrained_cfg(name)
    if not config.has_weights:
        raise UserError(f"model.weights=pretrained: timm has none for {name}{nearest(name, timm.list_pretrained())}")
    repository = config.hf_hub_id or ""
    page = f"https://huggingface.co/{repository}" if repository else config.url
    cached = find_cached(repository, config.hf_hub_filename) if repository and config.custom_load != "hf" else None
    if cached is not None:
        arguments["pretrained_cfg_overlay"] = {"file": str(cached)}
    elif not is_reachable(page):
        raise UserError(describe_missing(name, page, "no network"))
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except (OSError, RuntimeError) as error:
        raise UserError(describe_missing(name, page, first_line(error))) from None


def find_cached(repository: str, filename: str | None) -> Path | None:
    """The file of weights that the Hugging Face hub's cache on this machine holds for a repository, if any."""
    from huggingface_hub import try_to_load_from_cache

    for file in (filename,) if filename else ("model.safetensors", "pytorch_model.bin"):
        if isinstance(cached := try_to_load_from_cache(repository, file), str):
            return Path(cached)
    return None


def load_timm(network: nn.Module, path: Path, channels: int) -> None:
    """Load a file of weights as timm loads its own: renamed and resized for the network, and for `channels`.

    Raises UserError as `read_weights` and `load_fitting` do.
    """
    from timm.models import adapt_input_conv

    tensors, own = read_weights(path), network.state_dict()
    convert = getattr(importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None)
    if convert is not None:
        with suppress(AttributeError, KeyError, RuntimeError, ValueError):  # another network's, refused below
            tensors = convert(dict(tensors), network)
    first = network.pretrained_cfg.get("first_conv")
    for name in (f"{layer}.weight" for layer in ((first,) if isinstance(first, str) else first or ())):
        weight = tensors.get(name)
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3 and own[name].shape[1] == channels != 3:
            tensors[name] = adapt_input_conv(channels, weight)
    load_fitting(network, tensors, str(path))


def timm_input(network: nn.Module, weights: str) -> WeightsInput:
    """How the images of these weights were normalized: from the file's own configuration, or else from timm's."""
    from timm.data import resolve_data_config

    own = {} if weights == PRETRAINED else read_config(Path(weights))
    config = network.pretrained_cfg | own
    chosen = resolve_data_config({}, pretrained_cfg=config)
    name = f"{config['architecture']}.{config['tag']}" if weights == PRETRAINED and config.get("tag") else weights
    return WeightsInput(name, tuple(chosen["mean"]), tuple(chosen["std"]), tuple(chosen["input_size"][1:]))

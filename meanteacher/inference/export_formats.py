"""The files of an exported run: ONNX, PyTorch's exported program, or weights as safetensors with a configuration.

Each function writes its files into a folder and returns a function that runs what was written, read back from there:
uint8 [N, H, W, C] → probabilities float32 [N, K].
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError, first_line
from meanteacher.config.settings import Settings
from meanteacher.inference.deployable import Deployable
from meanteacher.runs.build import build

OPSET = 18
"""Version of the ONNX operators; ONNX Runtime 1.14 (2023) and later know it."""

MOST_VALUES = 1000
"""Of a tensor of the normalization that is written into config.json."""

Run = Callable[[np.ndarray], np.ndarray]


def example_images(channels: int) -> Tensor:
    """A batch to trace with, of a size that no dimension of the network has: uint8 [2, 37, 53, C]."""
    return torch.randint(0, 256, (2, 37, 53, channels), dtype=torch.uint8)


def dynamic_shapes() -> dict[str, dict[int, Any]]:
    """Number, height and width of the images are free."""
    return {"images": {axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "height", "width"))}}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the context, the exporters of PyTorch print nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def require(*packages: str) -> None:
    """Raise UserError if a package is not installed."""
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            raise UserError(f"this format needs the package {package}: pip install -e '.[export]'") from None


def write_onnx(deployable: Deployable, folder: Path, channels: int, config: dict) -> Run:
    """Write model.onnx; the class names are in its metadata under `classes`, as JSON."""
    require("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    with quiet():
        program = torch.onnx.export(
            deployable,
            (example_images(channels),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=dynamic_shapes(),
        )
    program.model.metadata_props["classes"] = json.dumps(config["classes"], ensure_ascii=False)
    program.save(folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"images": images})[0]


def write_pt2(deployable: Deployable, folder: Path, channels: int, config: dict) -> Run:
    """Write model.pt2, which `torch.export.load` reads; config.json is also in it, as an extra file."""
    with quiet():
        program = torch.export.export(deployable, (example_images(channels),), dynamic_shapes=dynamic_shapes())
        path = folder / "model.pt2"
        torch.export.save(program, path, extra_files={"config.json": json.dumps(config, ensure_ascii=False)})
        module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def write_safetensors(deployable: Deployable, folder: Path, channels: int, config: dict) -> Run:
    """Write model.safetensors with the weights of the network; config.json tells how to build it.

    Raises UserError if the network is not the one that the configuration builds, because the method has changed it.
    """
    require("safetensors")
    from safetensors.torch import load_model, save_model

    path = folder / "model.safetensors"
    save_model(deployable.network, path, metadata={"format": "pt"})
    network = build(config["network"])
    try:
        load_model(network, path)
    except RuntimeError as error:
        raise UserError(
            f"safetensors: the method has changed the network ({first_line(error)}); use onnx or pt2"
        ) from None
    rebuilt = Deployable(
        network=network.eval(),
        normalize=deployable.normalize,
        image_size=deployable.image_size,
        resize=deployable.resize_policy,
        temperature=deployable.temperature,
    )
    return lambda images: rebuilt(torch.from_numpy(images)).detach().numpy()


FORMATS = {"onnx": write_onnx, "safetensors": write_safetensors, "pt2": write_pt2}


def describe(deployable: Deployable, classes: list[str], channels: int, settings: Settings) -> dict:
    """The content of config.json: what one needs to use the file, or to build the network again."""
    normalize = deployable.normalize
    statistics = {name: values.flatten().tolist() for name, values in normalize.state_dict().items()}
    small = {name: values for name, values in statistics.items() if len(values) <= MOST_VALUES}
    return {
        "classes": classes,
        "input": f"uint8 [N, H, W, {channels}], {'RGB' if channels == 3 else 'gray'}, of any size",
        "output": "probabilities, float32 [N, K]",
        "image_size": list(deployable.image_size),
        "resize": f"{deployable.resize_policy}, bilinear as in Pillow",
        "normalization": {"name": type(normalize).__name__} | small,
        "temperature": deployable.temperature,
        "network": settings.model | {"channels": channels, "classes": len(classes)},
    }

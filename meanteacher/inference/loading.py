"""From a run folder to a predictor: the folder is all that is needed."""

from pathlib import Path

import torch
from hydra.errors import InstantiationException
from pydantic import ValidationError
from torch import nn

from meanteacher.config.added_keys import add_missing
from meanteacher.config.errors import UserError, first_line
from meanteacher.config.settings import Settings
from meanteacher.inference.predictor import Predictor
from meanteacher.runs.build import SkipRandomInitialization, build, build_average, choose_eval_batch, construct_method
from meanteacher.runs.deployment import FILE, Deployment
from meanteacher.runs.result import Result
from meanteacher.training.checkpoint import CURRENT, Checkpoints
from meanteacher.training.device import choose_device, choose_precision


def load(run: str | Path, network: str | None = None, device: str = "auto", batch: int | None = None) -> Predictor:
    """The predictor of a finished run. Neither the images of the run nor a file of pretrained weights is needed.

    run: the run folder, wherever it was moved. network: `student`, `teacher` or `average`; None for the one to deploy.
    device: auto | cuda | mps | cpu. batch: the most images in a forward pass, None for the run's `trainer.eval_batch`.
    Raises UserError if the folder holds no run, or one that is unfinished, damaged or of another version, if it has no
    such network, and if the device is not available.
    """
    folder = Path(run).expanduser()
    result = read_finished(folder)
    deployment = Deployment.read(folder)
    if network is not None and network not in deployment.networks:
        raise UserError(f"{folder}: has no network {network!r}; its networks: {', '.join(deployment.networks)}")
    where = choose(device)
    settings = read_settings(result, folder)
    augment = build(settings.augment)
    augment.normalize.load_state_dict(deployment.load_normalization(folder))
    models = load_networks(settings, deployment, result, folder)
    name = network or deployment.deployed
    return Predictor(
        model=models[name].to(where, memory_format=torch.channels_last).eval().requires_grad_(False),
        augment=augment.to(where),
        deployment=deployment,
        network=name,
        device=where,
        precision=choose_precision("auto", where) if result.precision == "bf16" else "fp32",
        batch=batch or choose_eval_batch(settings.trainer, deployment.image_shape),
    )


def read_finished(folder: Path) -> Result:
    """The result of a run that can be used. Raises UserError for any other folder."""
    path = folder / "result.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give a run folder, as printed at the end of a run")
    if not path.exists():
        below = next(folder.glob("**/result.json"), None)
        hint = f"; a run lies in {below.parent}" if below else "; give a run folder, as printed at the end of a run"
        raise UserError(f"{folder}: holds no run (there is no result.json){hint}")
    result = Result.read(path)
    if result.status != "finished":
        raise UserError(
            f"{folder}: this run is not finished ({result.status}); finish it with: {result.from_anywhere(folder)}"
        )
    if not (folder / FILE).exists():
        raise UserError(
            f"{folder}: has no {FILE}, because an earlier version of meanteacher made this run; where its images are, "
            f"the same command writes the file without training again: {result.from_anywhere(folder)}"
        )
    return result


def choose(device: str) -> torch.device:
    """The device by name. Raises UserError if it is not available."""
    try:
        return choose_device(device)
    except UserError as error:
        raise UserError(str(error).replace("trainer.device", "device")) from None


def read_settings(result: Result, folder: Path) -> Settings:
    """The settings of the run, without reading the files that they name, and with keys that were added since.

    Raises UserError if they are not usable.
    """
    try:
        settings = Settings.model_validate(add_missing(result.settings))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"{folder}: made by another version of meanteacher (settings: {where}); install that version, or repeat "
            f"the run: {result.from_anywhere(folder)} fresh=true"
        ) from None
    return settings.replace({"model": without_weights(settings.model)})


def without_weights(model: dict) -> dict:
    """The configuration of a network of this package without weights to load, which the checkpoint would replace.

    The configuration of any other network is returned as it is.
    """
    if not model["_target_"].startswith("meanteacher."):
        return model
    return model | {key: value for key, value in {"weights": None, "train": "all"}.items() if key in model}


def load_networks(settings: Settings, deployment: Deployment, result: Result, folder: Path) -> dict[str, nn.Module]:
    """The networks of the run by name, with their trained weights, on the CPU."""
    path = folder / CURRENT
    try:
        state = Checkpoints(folder, result.digest).read(path, torch.device("cpu"))
    except Exception as error:  # torch, pickle and zipfile raise errors of many types for damaged files
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: cannot be read ({reason}); copy it from the original run folder") from None
    if deployment.digest != result.digest or state["step"] != result.steps:
        raise UserError(f"{folder}: {CURRENT}, {FILE} and result.json belong to different runs; copy the folder again")
    channels = deployment.image_shape[0]
    try:
        with SkipRandomInitialization():
            method = construct_method(
                settings, channels=channels, classes=len(deployment.classes), images=deployment.training_images
            )
        average = build_average(method, settings.trainer)
        method.load_state_dict(state["method"])
        if average:
            average.load_state_dict(state["average"])
    except (InstantiationException, ImportError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: its networks cannot be rebuilt by this version of the code "
            f"({first_line(error.__cause__ or error)}); use the code of commit {result.commit}"
        ) from error
    return method.eval_models() | ({"average": average.model} if average else {})

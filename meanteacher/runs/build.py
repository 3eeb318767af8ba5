"""Objects from configuration nodes: data, split, method, average."""

import inspect
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import nn

from meanteacher.config import schema
from meanteacher.config.errors import UserError
from meanteacher.data import Dataset, splits
from meanteacher.methods.base import Method
from meanteacher.methods.common.ema import EMA


def build(node: dict, **given: Any) -> Any:
    """The object that a node's `_target_` names. Bad input met on the way stays a UserError."""
    try:
        return instantiate(node, _convert_="all", **given)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def load_data(node: dict) -> Dataset:
    """The data set of a `dataset` node."""
    return build({key: value for key, value in node.items() if key not in schema.UNTARGETED["dataset"]})


def make_split(data: Dataset, settings: dict, folder: Path) -> splits.Split:
    """The run folder's split where it has one, else the one that `split` names, else a drawn one; kept as split.json."""
    shared = settings["dataset"]["labeled_in_unlabeled"]
    kept, given = folder / "split.json", settings["split"]
    if kept.exists():
        return splits.read(kept, data, labeled_in_unlabeled=shared)
    choice = {key: settings[key] for key in ("label", "split_seed")}
    if given:
        split = splits.read(Path(given), data, labeled_in_unlabeled=shared)
        choice = {"read_from": given, "label": len(split.labeled)}
    else:
        split = splits.draw(data, **choice, validation=settings["validation"], labeled_in_unlabeled=shared)
    splits.write(kept, data, split, choice | {"labeled_in_unlabeled": shared})
    return split


def build_method(settings: dict, data: Dataset) -> Method:
    """The method around a new student, given those of the run's facts that its constructor names."""
    channels, classes = data.train.pixels.shape[1], len(data.classes)
    student: nn.Module = build(settings["model"], channels=channels, classes=classes)
    facts = {"student": student, "num_classes": classes, "num_images": len(data.train.targets)}
    wanted = inspect.signature(get_class(settings["method"]["_target_"])).parameters
    return build(settings["method"], **{name: fact for name, fact in facts.items() if name in wanted})


def build_average(method: Method, keys: dict) -> EMA | None:
    """Averaged weights to evaluate beside a method that has no teacher of its own. keys: the `trainer` group."""
    if len(method.eval_models()) > 1:
        return None
    return EMA(
        method.student,
        decay=keys["average_decay"],
        warmup=keys["average_warmup"],
        buffers=keys["average_bn"],
    )

"""Objects from configuration nodes: data, split, method, averaged network."""

import inspect
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Node, Settings, TrainerSettings
from meanteacher.data import Dataset, splits
from meanteacher.methods.base import Method
from meanteacher.methods.common.ema import EMA


def build(node: Node, **arguments: Any) -> Any:
    """The object that a node's `_target_` names. A UserError raised on the way is passed on as it is."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def make_split(data: Dataset, settings: Settings, run_dir: Path) -> splits.Split:
    """The run directory's split if it has one, else the file that `split` names, else a newly drawn one; kept as split.json."""
    shared, kept = settings.dataset.labeled_in_unlabeled, run_dir / "split.json"
    if kept.exists():
        return splits.read(kept, data, labeled_in_unlabeled=shared)
    if settings.split:
        split = splits.read(Path(settings.split), data, labeled_in_unlabeled=shared)
        origin = {"read_from": settings.split, "label": len(split.labeled)}
    else:
        origin = {"label": settings.label, "split_seed": settings.split_seed}
        split = splits.draw(data, **origin, validation=settings.validation, labeled_in_unlabeled=shared)
    splits.write(kept, data, split, origin | {"labeled_in_unlabeled": shared})
    return split


def construct_method(settings: Settings, *, channels: int, classes: int, images: int) -> Method:
    """The method around a new student.

    Its constructor gets those of `student`, `num_classes` and `num_images` (of the training part) that it names.
    """
    student: nn.Module = build(settings.model, channels=channels, classes=classes)
    facts = {"student": student, "num_classes": classes, "num_images": images}
    parameters = inspect.signature(get_class(settings.method["_target_"])).parameters
    return build(settings.method, **{name: fact for name, fact in facts.items() if name in parameters})


def build_method(data: Dataset, settings: Settings) -> Method:
    """`construct_method` for a data set that has been loaded."""
    pixels = data.train.pixels
    return construct_method(settings, channels=pixels.shape[1], classes=len(data.classes), images=len(pixels))


def build_average(method: Method, trainer: TrainerSettings) -> EMA | None:
    """Averaged weights, evaluated beside a method that has no teacher of its own; None for a method with a teacher."""
    if len(method.eval_models()) > 1:
        return None
    average = EMA(decay=trainer.average_decay, warmup=trainer.average_warmup, bn=trainer.average_bn)
    return average.bind(method.student)

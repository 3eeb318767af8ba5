"""Objects from configuration nodes: data, split, method, averaged network."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Node, Settings, TrainerSettings
from meanteacher.config.signatures import constructor_parameters
from meanteacher.config.trust import check_targets
from meanteacher.data import Dataset, splits
from meanteacher.data.scenario import split_classes
from meanteacher.data.stored_split import is_stored
from meanteacher.methods.base import Method
from meanteacher.methods.combinations import check_combination
from meanteacher.methods.common.ema import EMA

EVAL_PIXELS = 1024 * 96 * 96
"""The most pixels in a forward pass of an evaluation."""


def build(node: Node, **arguments: Any) -> Any:
    """The object that a node's `_target_` names. A UserError raised on the way is passed on as it is.

    Raises UserError if the node names code that a configuration may not call.
    """
    check_targets(node)
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def load_data(settings: Settings) -> Dataset:
    """The data set; with `mismatch`, without the labels of some classes."""
    data = build(settings.dataset.node)
    return data if settings.mismatch is None else split_classes(data, settings.split_seed)


def make_split(data: Dataset, settings: Settings, run_dir: Path) -> splits.Split:
    """The split that `split` names or that is drawn, which split.json in the run directory keeps.

    Raises UserError if the directory already keeps another one.
    """
    shared, kept = settings.dataset.labeled_in_unlabeled, run_dir / "split.json"
    if settings.split:
        split = splits.read(Path(settings.split), data, labeled_in_unlabeled=shared)
        origin = {"read_from": settings.split, "label": len(split.labeled)}
    else:
        origin = {"label": settings.label, "split_seed": settings.split_seed}
        origin |= settings.scenario
        split = splits.draw(data, **origin, validation=settings.validation, labeled_in_unlabeled=shared)
    if not is_stored(kept, data, split, labeled_in_unlabeled=shared):
        splits.write(kept, data, split, origin | {"labeled_in_unlabeled": shared})
    return split


def construct_method(settings: Settings, *, channels: int, classes: int, images: int) -> Method:
    """The method around a new student.

    Its constructor gets those of `student`, `num_classes` and `num_images` (of the training part) that it names.
    """
    student: nn.Module = build(settings.model, channels=channels, classes=classes)
    facts = {"student": student, "num_classes": classes, "num_images": images}
    module, _, name = settings.method["_target_"].rpartition(".")
    parameters = constructor_parameters(module, name) or {}
    try:
        method = build(settings.method, **{key: fact for key, fact in facts.items() if key in parameters})
    except InstantiationException as error:
        if isinstance(error.__cause__, AttributeError) and error.__cause__.name == "feature_channels":
            raise UserError(
                f"method: {name} needs a network with features, which {type(student).__name__} does not have; "
                "see meanteacher.models.Network"
            ) from None
        raise
    if not isinstance(method, Method):
        raise UserError(f"method._target_={settings.method['_target_']}: gives no meanteacher.methods.Method")
    return method


def build_method(settings: Settings, data: Dataset) -> Method:
    """`construct_method` for a data set that has been loaded."""
    pixels = data.train.pixels
    return construct_method(settings, channels=pixels.shape[1], classes=len(data.classes), images=len(pixels))


class SkipRandomInitialization(TorchFunctionMode):
    """Leave new weights uninitialized, so that even large networks are constructed within a fraction of a second."""

    skipped = frozenset(
        (init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.uniform_, Tensor.normal_, Tensor.uniform_)
    )

    def __enter__(self):
        # trunc_normal_ does not dispatch to `__torch_function__`. It redraws values until all are within its bounds,
        # which never ends if drawing changes nothing.
        self.trunc_normal = init.trunc_normal_
        init.trunc_normal_ = lambda tensor, *args, **kwargs: tensor
        return super().__enter__()

    def __exit__(self, *exception):
        init.trunc_normal_ = self.trunc_normal
        return super().__exit__(*exception)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.skipped:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def check_before_loading(settings: Settings, view_names: Collection[str]) -> None:
    """Check method, network and augmentation before the images are loaded.

    Placeholders are used for the facts that only the images determine. Raises UserError if a constructor raises it for
    color and for gray images, or if `check_combination` does.
    """
    errors = []
    for channels in (3, 1):
        try:
            with SkipRandomInitialization():
                method = construct_method(settings, channels=channels, classes=10, images=100)
            return check_combination(method, view_names, None)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def choose_eval_batch(trainer: TrainerSettings, shape: tuple[int, ...]) -> int:
    """The most images [C, H, W] in a forward pass of an evaluation: fewer than asked for where they are very large."""
    return max(1, min(trainer.eval_batch, EVAL_PIXELS // (shape[1] * shape[2])))


def build_average(method: Method, trainer: TrainerSettings) -> EMA | None:
    """Averaged weights, evaluated beside a method that has no teacher of its own; None for a method with a teacher."""
    if len(method.eval_models()) > 1:
        return None
    average = EMA(decay=trainer.average_decay, warmup=trainer.average_warmup, bn=trainer.average_bn)
    return average.bind(method.student)

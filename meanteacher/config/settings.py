"""The settings of a run as types: checked once, frozen, and used by everything below the command line."""

import copy
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from meanteacher.config import checks
from meanteacher.config.added_keys import SCENARIO
from meanteacher.config.digest import run_digest
from meanteacher.config.errors import UserError
from meanteacher.config.trust import check_targets
from meanteacher.config.types import Count, Decay, Fraction, Imbalance, Name, PositiveFloat, Seed, Threads

Node = dict[str, Any]
"""A configuration node with a `_target_`, from which an object is built. Treat it as read-only."""

NODES = ("dataset", "model", "method", "optimizer", "schedule", "augment", "logger")
"""The keys that hold nodes."""


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NodeSettings(BaseModel):
    """Keys that the run reads itself, beside a `_target_` and its arguments."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def node(self) -> Node:
        """The `_target_` and its arguments."""
        return dict(self.model_extra or {})


class DatasetSettings(NodeSettings):
    name: Name
    storage: Literal["auto", "device", "mmap"]
    labeled_in_unlabeled: bool


class OptimizerSettings(NodeSettings):
    """`lr` is also an argument of the optimizer's constructor, so it stays in `node`.

    The keys with defaults are missing in configurations that were stored before these keys existed.
    """

    lr: PositiveFloat
    decay_norm_and_bias: bool
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    head_lr_scale: PositiveFloat = 1.0

    @property
    def node(self) -> Node:
        return super().node | {"lr": self.lr}


class TrainerSettings(Frozen):
    device: Literal["auto", "free", "cuda", "mps", "cpu"]
    devices: PositiveInt | Literal["auto"] = 1
    elastic: Literal["none", "bitwise"] = "none"
    threads: Threads | None
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto", "always", "never"]
    labeled_batch: Count
    unlabeled_batch: Count
    labeled_sampling: Literal["natural", "balanced"] = "natural"
    eval_batch: Count
    average_decay: Decay
    average_warmup: bool
    average_bn: Literal["copy", "average"]
    log_every: Count
    checkpoint_minutes: PositiveFloat


class Choices(Frozen):
    """The option chosen from each config group, and the sweep that the run belongs to. None where there is none."""

    dataset: str | None = None
    model: str | None = None
    method: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    augment: str | None = None
    experiment: str | None = None
    sweep: str | None = None


class Settings(Frozen):
    """A composed configuration. `parse` checks one; `replace` gives a copy with other values.

    The keys with defaults are missing in configurations that were stored before these keys existed.
    """

    label: Count | Literal["all"]
    seed: Seed
    split_seed: Seed
    split: Name | None
    validation: NonNegativeInt
    unlabeled: PositiveInt | None = None
    mismatch: Fraction | None = None
    imbalance: Imbalance | None = None
    unlabeled_imbalance: Imbalance | None = None
    steps: Count
    eval_every: Count
    data_dir: Name
    output: Name
    fresh: bool
    dataset: DatasetSettings
    model: Node
    method: Node
    optimizer: OptimizerSettings
    schedule: Node
    augment: Node
    trainer: TrainerSettings
    logger: dict[str, Node] = {}

    @classmethod
    def parse(cls, config: dict) -> Self:
        """Check a composed configuration of plain builtins.

        Raises UserError for the first value of the wrong type, out of range or not among the choices, and for code that
        a configuration may not name (`meanteacher.config.trust`).
        """
        settings = checks.validate("", cls, copy.deepcopy(config))
        check_targets({group: config.get(group) for group in NODES})
        checks.check_optimizer(config["optimizer"])
        for group, node in config.items():
            checks.check_node(group, node, checks.UNTARGETED.get(group, set()))
        settings.check_split()
        return settings

    def check_split(self) -> None:
        """Raise UserError for settings that exclude each other in the choice of images."""
        if self.split and self.validation:
            raise UserError(
                "validation and split exclude each other: a split file has its own validation images; set validation=0"
            )
        if self.split and self.scenario:
            name = next(iter(self.scenario))
            raise UserError(
                f"{name} and split exclude each other: a split file has its own images; set {name}=null or split=null"
            )
        if self.unlabeled and self.unlabeled < self.trainer.unlabeled_batch:
            raise UserError(
                f"unlabeled={self.unlabeled}: a step takes {self.trainer.unlabeled_batch} unlabeled images; "
                "use at least as many, or a smaller trainer.unlabeled_batch"
            )

    @property
    def scenario(self) -> dict[str, int | float]:
        """The realistic options that are in use: those of `SCENARIO` that are not null."""
        return {name: value for name in SCENARIO if (value := getattr(self, name)) is not None}

    def replace(self, changes: dict) -> "Settings":
        """A copy with these keys replaced at the top level."""
        return Settings(**(self.as_dict() | changes))

    def as_dict(self) -> dict:
        """Plain builtins, as composed."""
        return self.model_dump()

    @cached_property
    def digest(self) -> str:
        """Ten hexadecimal digits over everything that determines the result of the run."""
        return run_digest(self.as_dict())

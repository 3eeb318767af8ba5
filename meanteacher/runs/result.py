"""The result of a run: `result.json` is written from and read into one class, with a schema version.

Does not import torch.
"""

import json
import os
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meanteacher.config.checksums import checksum
from meanteacher.config.digest import without_locations
from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically

SCHEMA_VERSION = 3

BASELINE = "supervised"
"""The method that the others are compared with."""

TEACHER_KEYS = {"ema_decay": "decay", "ema_warmup": "warmup", "teacher_bn": "bn", "teacher_mode": "mode"}
"""Method settings of version 1 that version 2 keeps under `teacher`, by their name there."""

TEACHER_TARGET = "meanteacher.methods.common.teacher.Teacher"

OPTIMIZERS = {"sgd": "torch.optim.SGD", "adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW"}
"""Optimizer functions of version 1, and the classes that replaced them."""


Share = Annotated[float, Field(ge=0, le=1)]


class Scores(BaseModel):
    """Scores of one network on one part of the data. Errors and the calibration error (ECE) are fractions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error_last: Share
    error_median_last_20: Share | None = Field(None, description="missing where there were fewer than 20 evaluations")
    error_best_on_test: Share | None = Field(None, description="of the test part only; not for choosing between runs")
    cross_entropy: float | None = None
    ece: float | None = None
    balanced_accuracy: float | None = Field(None, description="mean recall of the classes; of realistic runs only")
    recall: dict[str, float | None] | None = Field(None, description="by class; of realistic runs only")
    auroc_unknown: float | None = Field(None, description="of test images of classes without labels; with mismatch")


class ClassScores(BaseModel):
    """Counts of test images of one class, and the ratios of them: recall = correct / images, precision likewise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    predicted: int = Field(description="images that are predicted as this class")
    correct: int
    recall: float | None = Field(description="None without images")
    precision: float | None = Field(description="None where no image is predicted as this class")


class Result(BaseModel):
    """All that is known about a run. Fields that are None have not been measured (yet)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[3] = SCHEMA_VERSION
    status: Literal["running", "finished", "interrupted", "failed"]
    reason: str | None = Field(None, description="why the run was interrupted or failed")
    digest: str
    command: str
    started_in: str | None = Field(None, description="the command's working directory, relative to the run folder")
    choices: dict[str, str | None] = Field(description="the chosen option of each config group, and the sweep")
    source: str = Field(description="digest of the package's source code")
    settings: dict[str, Any] | None = Field(None, description="None only in files older than version 1's settings")
    label: int | Literal["all"]
    seed: int
    split_seed: int
    attempts: int = 1
    wall_seconds: float = 0.0
    bitwise: bool | None = Field(None, description="False where a resume changed the devices or the number of threads")
    models: dict[str, Scores] | None = Field(None, description="test scores by network, the deployed one last")
    validation: dict[str, Scores] | None = None
    by_class: dict[str, dict[str, ClassScores]] | None = Field(None, description="test scores by network and class")
    pseudo_labels: dict[str, float] | None = Field(
        None, description="scores of the pseudo-labels over the last log interval: fractions by name"
    )
    steps: int | None = None
    images_per_second: float | None = None
    training_seconds: float | None = None
    peak_memory_bytes: int | None = None
    versions: dict[str, str | None] | None = None
    hardware: str | None = None
    threads: int | None = None
    devices: int | None = Field(None, description="the number of processes that shared each batch")
    commit: str | None = None
    precision: str | None = None
    compiled: bool | None = None
    data: dict[str, str | int] | None = Field(None, description="name, number of images and classes, fingerprint")
    duplicates: dict[str, int] | None = Field(None, description="images that occur in two parts, and those dropped")
    split_digest: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The result in a file of any schema version. Raises UserError where there is none."""
        try:
            return cls.parse(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: not readable as JSON ({error}); repair the file or repeat the run") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, content: Any) -> Self:
        """The result in the content of a file of any schema version. Raises UserError where it is not a result.

        A checksum is compared if there is one: files of earlier versions have none.
        """
        if not isinstance(content, dict):
            raise UserError("not the result of a run; give result.json files")
        if content.get("checksum", expected := checksum_of(content)) != expected:
            raise UserError(
                "does not match its checksum, so it was damaged or edited; restore it from a copy, delete it and rerun "
                'the command of the run, or remove its line "checksum" if it was edited on purpose'
            )
        content = {name: value for name, value in content.items() if name != "checksum"}
        version = content.get("schema_version", 1)
        if version not in (1, 2, SCHEMA_VERSION):
            raise UserError(
                f"schema version {version} is unknown to this version of meanteacher (upgrade meanteacher to read it)"
            )
        try:
            return cls.model_validate(content if version == SCHEMA_VERSION else migrate(content, version))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"not the result of a run ({where}: {first['msg']}); give result.json files") from None

    def write(self, path: Path) -> None:
        """Replace the file at `path` atomically."""
        write_atomically(path, self.to_json())

    def to_json(self) -> str:
        """The fields that were set, as JSON with a line per value, and their checksum."""
        version = {"schema_version": self.schema_version}
        content = version | self.model_dump(exclude_unset=True)
        return json.dumps(version | {"checksum": checksum_of(content)} | content, indent=1) + "\n"

    def from_anywhere(self, folder: Path, command: str | None = None) -> str:
        """The run's command, or another one with its paths, in a form that is valid in the current directory.

        folder: the run folder. Paths in a command are relative to the directory in which the run was started.
        """
        command = self.command if command is None else command
        directory = os.path.normpath(os.path.join(os.path.realpath(folder), self.started_in or ""))
        if self.started_in is None or directory == os.path.realpath(os.getcwd()) or not os.path.isdir(directory):
            return command
        return f"cd {shlex.quote(directory)} && {command}"

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**kept | changes)

    @property
    def method(self) -> str | None:
        return self.choices.get("method")

    @property
    def deployed(self) -> str:
        """The network by which this run is judged on its own. See `deployed_network` for runs over several seeds."""
        return deployed_network([self])


def checksum_of(content: dict) -> str:
    """The checksum of the content of a file, without the keys that say where files are: these may be edited."""
    covered = {name: value for name, value in content.items() if name not in ("checksum", "command", "started_in")}
    if isinstance(settings := covered.get("settings"), dict):
        covered["settings"] = without_locations(settings)
    return checksum(covered)


def deployed_network(results: Sequence[Result]) -> str:
    """The network by which a method is judged. results: measured runs of one variant of the method, over all its seeds.

    It is the last of the method's networks: the teacher, or the averaged weights. The supervised baseline is judged by
    the network that has the smaller mean test error over all results, which makes the baseline harder to beat.
    """
    networks = list(dict.fromkeys(network for result in results for network in result.models or {}))
    if results[0].method != BASELINE:
        return networks[-1]

    def mean_error(network: str) -> float:
        return statistics.fmean(r.models[network].error_last for r in results if network in (r.models or {}))

    return min(networks, key=mean_error)


def migrate(content: dict, version: int) -> dict:
    """The content of a file of an older version as version 3.

    In version 2, `names` became `choices`, and some settings moved. Version 3 has further scores, none required.
    """
    if version == 1:
        content = {("choices" if name == "names" else name): value for name, value in content.items()}
        if isinstance(settings := content.get("settings"), dict):
            moved = {"method": migrate_method, "optimizer": migrate_optimizer}
            moved = {name: move(settings[name]) for name, move in moved.items() if name in settings}
            content["settings"] = settings | moved
    return content | {"schema_version": SCHEMA_VERSION}


def migrate_method(method: dict) -> dict:
    """The teacher's keys lie under `teacher`; FixMatch's choice between student and teacher is called `judge`."""
    teacher = {new: method[old] for old, new in TEACHER_KEYS.items() if old in method}
    rest = {name: value for name, value in method.items() if name not in TEACHER_KEYS}
    if isinstance(rest.get("teacher"), str):
        rest["judge"] = rest.pop("teacher")
    return rest | ({"teacher": {"_target_": TEACHER_TARGET} | teacher} if teacher else {})


def migrate_optimizer(optimizer: dict) -> dict:
    """`beta1` and `beta2` became `betas`, and this package's functions became the classes of torch.optim."""
    rest = {name: value for name, value in optimizer.items() if name not in ("beta1", "beta2")}
    if "_target_" in rest:
        rest["_target_"] = OPTIMIZERS.get(rest["_target_"].rpartition(".")[2], rest["_target_"])
    betas = [optimizer[name] for name in ("beta1", "beta2") if name in optimizer]
    return rest | ({"betas": betas} if betas else {})

"""Times the first training steps of a command on this machine, on noise in the shape of the images."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meanteacher.config.composing import compose_plain
from meanteacher.config.console import only_errors
from meanteacher.config.settings import Choices, Settings
from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images

IMAGES = 512
"""Images of noise to draw batches from."""

STEPS = 2_000
"""Steps that the timed run pretends to have. What is timed does not depend on it."""


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step, and of the evaluation of one image by all networks of the method."""

    step: float
    evaluated_image: float

    def run_seconds(self, steps: int, evaluations: int, images: int) -> float:
        """The seconds of a run that evaluates so many images so many times."""
        return steps * self.step + evaluations * images * self.evaluated_image


def noise(*, classes: PositiveInt, image_size: PositiveInt) -> Dataset:
    """Random images with labels, uint8 [N, 3, image_size, image_size], in both parts, at least one for each class."""
    total = max(IMAGES, classes)
    pixels = np.random.default_rng(0).integers(0, 256, (total, 3, image_size, image_size), np.uint8)
    images = Images(pixels=pixels, targets=np.arange(total) % classes, names=[str(number) for number in range(total)])
    return Dataset(name="noise", classes=[str(number) for number in range(classes)], train=images, test=images)


def measure_speed(overrides: dict[str, str], *, classes: int, image_size: int) -> Speed:
    """Train the first steps of a run with these overrides on noise; leaves no files behind. Takes some seconds.

    overrides: those of model, method, trainer and the like, without those of the data set.
    Raises UserError for settings that cannot run.
    """
    from meanteacher.runs.run_dir import RunDir
    from meanteacher.runs.session import Session
    from meanteacher.training.eta import TRAINING_COST

    config = compose_plain([*(f"{key}={value}" for key, value in overrides.items()), "logger=jsonl"])
    target = {"_target_": f"{__name__}.{noise.__name__}", "classes": classes, "image_size": image_size}
    config["dataset"] = {"name": "noise", "storage": "device", "labeled_in_unlabeled": True} | target
    config |= {"label": "all", "validation": 0, "steps": STEPS, "eval_every": STEPS}
    config["trainer"] |= {"compile": "never"}  # compiling takes longer than the steps that are timed
    choices = Choices(dataset="noise", **{group: overrides.get(group) for group in ("model", "method")})
    with tempfile.TemporaryDirectory() as folder, only_errors(), RunDir(Path(folder) / "run", "", fresh=False) as run:
        trainer = Session(Settings.parse(config), choices, run, show_progress=False).trainer
        trainer.estimate_seconds()
        seconds = trainer.estimator.seconds_per_step
        forward = seconds / trainer.estimator.images_per_step / TRAINING_COST
        return Speed(step=seconds, evaluated_image=forward * len(trainer.models()))

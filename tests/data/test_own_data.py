"""A data set and an augmentation in another repository: an importable module and a yaml each."""

import json

import pytest
from conftest import ROOT, TINY, command

DATASET = '''
"""Squares that are brighter for the second class."""

import numpy as np

from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images


def load(*, size: PositiveInt) -> Dataset:
    def part(count):
        targets = np.arange(count) % 2
        pixels = np.random.default_rng(count).integers(0, 100, (count, 1, size, size))
        pixels += 100 * targets[:, None, None, None]
        return Images(pixels=pixels.astype(np.uint8), targets=targets, names=[f"{i}" for i in range(count)])

    return Dataset(name="squares", classes=["dark", "bright"], train=part(60), test=part(20))
'''
DATASET_YAML = """
_target_: squares.load
name: squares
storage: auto
labeled_in_unlabeled: true
size: 16
"""
OPERATION = '''
"""Black pixels at random positions."""

import torch

from meanteacher.config.types import Fraction
from meanteacher.data.augment import Operation


class Pepper(Operation):
    def __init__(self, *, share: Fraction):
        self.share = share

    def draw(self, images, generator):
        return (torch.rand(images.shape, generator=generator, device=images.device) < self.share,)

    def apply(self, images, black):
        return images.masked_fill(black, 0.0)


class Salt(Pepper):
    def apply(self, images, white):
        return images.masked_fill(white, 1.0)
'''
AUGMENT_YAML = """
defaults: [standard, _self_]
views:
  weak:
    pepper:
      _target_: pepper.Pepper
      share: 0.05
    salt:
      _target_: pepper.Salt
      share: 0.05
"""


@pytest.fixture
def repository(tmp_path):
    """A folder with the two modules and their configurations; returns a function that runs the command in it."""
    files = {
        "squares.py": DATASET,
        "pepper.py": OPERATION,
        "conf/dataset/squares.yaml": DATASET_YAML,
        "conf/augment/peppered.yaml": AUGMENT_YAML,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    def run(*overrides):
        arguments = [f"--config-dir={tmp_path / 'conf'}", *TINY, "dataset=squares", "augment=peppered", "label=4"]
        arguments.append("trusted_packages=[squares,pepper]")
        return command(*arguments, *overrides, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")

    return run


def test_an_own_data_set_and_augmentation_train(repository, tmp_path):
    done = repository()
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("outputs/squares/mean_teacher/label-4/seed-0/*/result.json")
    result = json.loads(file.read_text())
    assert result["status"] == "finished"
    assert list(result["settings"]["augment"]["views"]["weak"]) == ["translate", "flip", "pepper", "salt"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.size=0", "dataset.size=0: "),
        ("augment.views.weak.pepper.share=2", "augment.views.weak.pepper.share=2: "),
        ("augment.views.weak.salt.share=2", "augment.views.weak.salt.share=2: "),
        ("dataset.size=4", "augment.views.weak.translate: pixels=4 "),
    ],
)
def test_bad_values_of_own_classes_are_reported_in_one_line(repository, override, words):
    done = repository(override)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and line.startswith(f"error: {words}") and "Traceback" not in done.stderr

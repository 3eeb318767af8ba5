"""The contract of a data set, and what importing the package loads."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from meanteacher.config.errors import UserError


@pytest.mark.parametrize(
    ("part", "field", "value", "words"),
    [
        (
            "train",
            "pixels",
            np.zeros((200, 3, 8, 8), np.float32),
            "train.pixels must be uint8 [N, C, H, W], not float32",
        ),
        (
            "test",
            "pixels",
            np.zeros((50, 8, 8), np.uint8),
            "test.pixels must be uint8 [N, C, H, W], not uint8 [50, 8, 8]",
        ),
        ("test", "pixels", np.zeros((50, 3, 4, 4), np.uint8), "training images have shape"),
        ("train", "targets", np.zeros(200, np.int32), "train.targets must be int64 [200], not int32 [200]"),
        ("train", "targets", np.zeros(199, np.int64), "train.targets must be int64 [200], not int64 [199]"),
        ("train", "targets", np.full(200, 4), "train.targets must be from -2 to 3, but are from 4 to 4"),
        ("test", "targets", np.full(50, -1), "test.targets must be from 0 to 3, but are from -1 to -1"),
        ("train", "names", ["a"], "train.names must hold 200 names, not 1"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_refused(blobs, part, field, value, words):
    with pytest.raises(UserError) as error:
        replace(blobs, **{part: replace(getattr(blobs, part), **{field: value})})
    assert str(error.value).startswith("data set blobs: ") and words in str(error.value)


def test_unlabeled_training_images_are_allowed(blobs):
    targets = np.where(np.arange(200) < 100, blobs.train.targets, -1)
    assert replace(blobs, train=replace(blobs.train, targets=targets)).train.targets.min() == -1


@pytest.mark.parametrize("modules", [".folder, .table, .huggingface", ".datasets"])
def test_modules_that_decode_images_do_not_import_torch(modules):
    heavy = "('torch', 'torchvision', 'PIL', 'datasets', 'pandas')"
    names = modules.replace(".", "meanteacher.data.")
    code = f"import sys, {names}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_checking_the_values_of_an_augmentation_does_not_import_torch():
    code = (
        "import sys; from meanteacher.config.signatures import constructor_parameters; "
        "names = constructor_parameters('meanteacher.data.augment', 'Translate'); print(*names, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pixels", "padding", "False"]

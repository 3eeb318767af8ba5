"""Shared by the tests: composing configurations, running the command, a small data set in memory."""

import copy
import functools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["WANDB_MODE"] = "offline"
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script runs the tests in the background
torch.set_num_threads(1)

from meanteacher.config import composing  # noqa: E402
from meanteacher.config.settings import Choices, Settings  # noqa: E402
from meanteacher.data import Dataset, Images  # noqa: E402

CONF = ROOT / "conf"
OWN_EXPERIMENTS = {"cifar10_cpu", "fashion_mnist_cpu", "quickstart"}
"""Options of `experiment` that follow no published recipe."""
TINY = [
    "experiment=quickstart",
    "steps=6",
    "eval_every=3",
    "trainer.labeled_batch=8",
    "trainer.unlabeled_batch=8",
    "logger=jsonl",
]


def settings(*overrides: str) -> dict:
    """The plain configuration that these overrides compose."""
    return copy.deepcopy(compose_once(overrides, os.environ.get("MEANTEACHER_DATA")))


@functools.cache
def compose_once(overrides: tuple[str, ...], data_dir: str | None) -> dict:
    """The configuration of `settings`, which Hydra takes a fifth of a second to compose."""
    return composing.compose_plain(overrides)


def parsed(*overrides: str) -> Settings:
    """The checked settings that these overrides compose."""
    return Settings.parse(settings(*overrides))


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """`python run.py …` in a process of its own, with one thread."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that is marked `gpu` where there is no GPU."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def same_draws(request) -> None:
    """A test draws the same numbers whichever tests ran before it in its process."""
    torch.manual_seed(0)
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """A command that a test calls logs to the standard error of that test, which no longer exists in the next one."""
    logger = logging.getLogger("meanteacher")
    handlers = list(logger.handlers)
    yield
    logger.handlers[:] = handlers


@pytest.fixture
def blobs() -> Dataset:
    """200 training and 50 test images of 3×8×8 in 4 classes that differ by their mean colour."""
    rng = np.random.default_rng(0)

    def part(n: int) -> Images:
        targets = np.arange(n) % 4
        pixels = (
            rng.integers(0, 120, (n, 3, 8, 8)) + 40 * targets[:, None, None, None] // np.array([1, 2, 3])[:, None, None]
        )
        return Images(
            pixels=pixels.clip(0, 255).astype(np.uint8), targets=targets, names=[f"{i}.png" for i in range(n)]
        )

    return Dataset(name="blobs", classes=["a", "b", "c", "d"], train=part(200), test=part(50))


COLORS = {"blue": (40, 60, 200), "green": (50, 180, 60), "красный": (200, 50, 40)}
"""The classes of the image folder of `finished_run`, and the mean color of the images of each."""


def write_colored_images(root: Path) -> Path:
    """A folder of 8×8 images: 16 to train, 8 unlabeled and 6 to test of each class of `COLORS`."""
    rng = np.random.default_rng(0)
    for part, count in {"train": 16, "unlabeled": 8, "test": 6}.items():
        for name, color in COLORS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = (color + rng.normal(0, 25, (8, 8, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return root


def command_of_finished_run(folder: Path) -> list[str]:
    """The overrides of `finished_run`, whose images lie in `folder`."""
    data = ["dataset=image_folder", f"dataset.root={folder / 'images'}", f"data_dir={folder}", "dataset.image_size=8"]
    return [*TINY, "steps=30", "eval_every=30", "label=21", "validation=24", "optimizer.lr=0.1", *data]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The folder of a finished Mean Teacher run with 21 labels and 24 validation images. Copy it before changing it.

    Its images lie beside it, in `images`; see `write_colored_images`.
    """
    from meanteacher.runs.run import run

    folder = tmp_path_factory.mktemp("finished")
    write_colored_images(folder / "images")
    settings = parsed(*command_of_finished_run(folder))
    choices = Choices(dataset="image_folder", method="mean_teacher")
    result = run(settings, choices, folder / "run", "python run.py", show_progress=False)
    assert result.status == "finished"
    return folder / "run"

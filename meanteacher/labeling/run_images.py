"""A finished run together with the images it was trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.data import Dataset, Images, splits
from meanteacher.data.cache import make_reader
from meanteacher.inference import Predictor, load
from meanteacher.inference.loading import read_finished, read_settings
from meanteacher.runs.build import load_data
from meanteacher.runs.result import Result

_CHUNK = 4096
_PLACES = ("root", "file", "path", "data_dir")
"""Arguments of data sets that say where images are, in the order in which `--data` replaces the first one present."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An image of a run. part: labeled, validation, unlabeled or test; row: its position in the training or test part;
    label: the name of its class, "" where the run has not seen it."""

    part: str
    row: int
    label: str


@dataclass(frozen=True, kw_only=True)
class RunImages:
    """A finished run with its images. folder: the run folder; split: which images it used for what."""

    folder: Path
    result: Result
    settings: Settings
    data: Dataset
    split: splits.Split

    @property
    def classes(self) -> list[str]:
        return self.data.classes

    @cached_property
    def known(self) -> np.ndarray:
        """The training images whose labels the run has seen, labeled ones and validation ones: int64, sorted."""
        return np.union1d(self.split.labeled, self.split.validation)

    @cached_property
    def files(self) -> list[Path] | None:
        """The file of each training image as an absolute path; None for a data set that is not made of files."""
        return files_of(self.settings, self.data.train)

    @cached_property
    def test_files(self) -> list[Path] | None:
        """The same for the test images."""
        return files_of(self.settings, self.data.test)

    def training_place(self, position: int) -> Place:
        """A training image."""
        if position not in self.known:
            return Place(part="unlabeled", row=int(position), label="")
        part = "validation" if position in self.split.validation else "labeled"
        return Place(part=part, row=int(position), label=self.classes[self.data.train.targets[position]])

    def test_place(self, position: int) -> Place:
        """A test image."""
        return Place(part="test", row=int(position), label=self.classes[self.data.test.targets[position]])

    def file_of(self, place: Place) -> Path | None:
        """The file of an image; None for a data set that is not made of files."""
        files = self.test_files if place.part == "test" else self.files
        return files[place.row] if files else None

    def path_of(self, place: Place) -> str:
        """How a table names an image: by the absolute path of its file, or else by its name in the data set."""
        return (self.test_paths if place.part == "test" else self.training_paths)[place.row]

    @cached_property
    def training_paths(self) -> list[str]:
        """`path_of` all training images."""
        return [str(file) for file in self.files] if self.files else self.data.train.names

    @cached_property
    def test_paths(self) -> list[str]:
        """`path_of` all test images."""
        return [str(file) for file in self.test_files] if self.test_files else self.data.test.names

    def pixels_of(self, place: Place) -> np.ndarray:
        """The pixels of an image as the run has seen them, uint8 [C, H, W]."""
        images = self.data.test if place.part == "test" else self.data.train
        return make_reader(images.pixels)(np.array([place.row]))[0]

    def outputs(self, function: Callable[[Tensor], Tensor], positions: np.ndarray) -> Tensor:
        """A function of training images, read a chunk at a time: [N, …]. positions: int64 [N], N ≥ 1.

        function: of a batch of pixels, uint8 [B, C, H, W].
        """
        read = make_reader(self.data.train.pixels)
        chunks = (read(positions[start : start + _CHUNK]) for start in range(0, len(positions), _CHUNK))
        return torch.cat([function(torch.from_numpy(pixels)) for pixels in chunks])

    def load_network(self) -> Predictor:
        """The network to deploy. Raises UserError if its classes are no longer those of the images."""
        network = load(self.folder)
        if network.classes != self.classes:
            raise UserError(f"{self.folder}: its images now have other classes; name the right ones with --data DIR")
        return network


def open_run(folder: Path, data: Path | None = None) -> RunImages:
    """A finished run and its images. data: where the images are now, if not where the settings of the run say.

    Raises UserError for a folder without a finished run of this version, and for images that are missing or not those
    of the run.
    """
    result = read_finished(folder)
    settings = read_settings(result, folder)
    settings = settings.replace({"dataset": locate(settings.dataset.model_dump(), data)})
    try:
        images = load_data(settings)
        split = splits.read(folder / "split.json", images, labeled_in_unlabeled=settings.dataset.labeled_in_unlabeled)
    except UserError as error:
        raise UserError(f"{error}; --data DIR names another place of the images of {folder}") from None
    return RunImages(folder=folder, result=result, settings=settings, data=images, split=split)


def locate(dataset: dict[str, Any], data: Path | None) -> dict[str, Any]:
    """The node of a data set with its images in `data`."""
    if data is None:
        return dataset
    place = next((key for key in _PLACES if key in dataset), None)
    if place is None:
        raise UserError(f"--data={data}: {dataset['name']} reads no files; leave it out")
    data = data.expanduser().absolute()
    moved = data / Path(dataset["file"]).name if place == "file" and data.is_dir() else data
    return dataset | {place: str(moved)}


def files_of(settings: Settings, images: Images) -> list[Path] | None:
    """The files of one part of the data as absolute paths; None for a data set that is not made of files."""
    node = settings.dataset.node
    folder = Path(node["root"]) if node.get("root") else Path(node["file"]).parent if node.get("file") else None
    if folder is None:
        return None
    files = [folder.expanduser().absolute() / name for name in images.names]
    return files if files[0].exists() else None

"""Files that name labeled images: text lists with a line `name class` each, and tables with `path,label[,part]`."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from meanteacher.config.errors import UserError
from meanteacher.data.images import Dataset

PARTS = ("", "train", "unlabeled", "validation", "test")
"""The values of the column `part`; an empty one is `train`."""


@dataclass(kw_only=True)
class ListedImages:
    """Positions in the training part of the images that a file names, in the order of its lines."""

    labeled: list[int] = field(default_factory=list)
    validation: list[int] = field(default_factory=list)
    unlabeled: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labeled) + len(self.validation) + len(self.unlabeled)


def read_label_list(path: Path, text: str, data: Dataset) -> ListedImages:
    """The images that the text of a file names: a table if its first line is a header with `path` and `label`.

    In a table, images with an empty label are unlabeled, and those of the test part are skipped: whatever the data set
    has as its test part is used.
    Raises UserError if an image is not in the training part or is listed twice, and for a label that is not the one in
    `data`.
    """
    text = text.removeprefix("\ufeff")
    first_line = next(csv.reader(text.splitlines()[:1]), [])
    rows = table_rows(path, text) if {"path", "label"} <= set(first_line) else list_rows(text)
    resolve, listed, seen = NameResolver(data.train.names), ListedImages(), set()
    for number, name, label, part in rows:
        if part == "test":
            continue
        index = resolve(name)
        if index is None:
            raise UserError(f"split={path}, line {number}: no single training image of {data.name} is named {name!r}")
        if index in seen:
            raise UserError(f"split={path}, line {number}: {name} is listed twice")
        seen.add(index)
        if label:
            check_label(f"split={path}, line {number}", name, label, index, data)
        kind = "unlabeled" if not label or part == "unlabeled" else part or "train"
        getattr(listed, "labeled" if kind == "train" else kind).append(index)
    if not listed.labeled:
        raise UserError(f"split={path}: the list names no image with a label")
    return listed


def check_label(where: str, name: str, label: str, index: int, data: Dataset) -> None:
    """Raise UserError if the training image at `index` does not have this label in the data set."""
    target = data.train.targets[index]
    if target < 0:
        raise UserError(
            f"{where}: {name} is unlabeled in {data.name}, not {label!r}; dataset=table reads labels from a table"
        )
    if label != data.classes[target]:
        raise UserError(f"{where}: {name} is {data.classes[target]} in {data.name}, not {label!r}")


def list_rows(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line number, name, class and part of each line of a text list. A class has no spaces."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, _, label = line.strip().rpartition(" ")
            yield number, name.strip(), label, ""


def table_rows(path: Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line number, path, label and part of each row of a table. Raises UserError for a row that is too short."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        where = f"split={path}, line {reader.line_num}"
        part = (row.get("part") or "").strip()
        if row["path"] is None or row["label"] is None:
            raise UserError(f"{where}: expected a path and a label, which may be empty; add what is missing")
        if part not in PARTS:
            raise UserError(f"{where}: part is {part!r}; use one of {', '.join(PARTS[1:])}, or leave it empty")
        yield reader.line_num, row["path"], row["label"].strip(), part


class NameResolver:
    """From an image's name in a file to its position among `names`, or None where there is none or several.

    A file may name an image by its name in the data set, by a longer path that ends in this name, or without its
    folder if that is unique.
    """

    def __init__(self, names: list[str]):
        self.positions = {name: i for i, name in enumerate(names)}
        counts = Counter(PurePosixPath(name).name for name in names)
        self.by_file = {file: i for i, name in enumerate(names) if counts[file := PurePosixPath(name).name] == 1}

    def __call__(self, name: str) -> int | None:
        if name in self.positions:
            return self.positions[name]
        parts = PurePosixPath(name).parts
        endings = ("/".join(parts[start:]) for start in range(1, len(parts)))
        index = next((self.positions[ending] for ending in endings if ending in self.positions), None)
        return self.by_file.get(name) if index is None else index

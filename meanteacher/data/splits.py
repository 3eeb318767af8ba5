"""The split of the training part into labeled, unlabeled and validation images.

A split is drawn from the targets and `split_seed` alone, or read from a file.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.data.images import Dataset, Images
from meanteacher.data.random_streams import SplitStream, numpy_generator

FORMAT = "meanteacher split 1"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions in the training part, each array int64 and sorted.

    labeled and validation are disjoint; unlabeled contains no validation image. notes: sentences the user should read.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray
    notes: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """10 hexadecimal digits that identify the labeled and the validation images."""
        digest = hashlib.blake2b(digest_size=5)
        for positions in (self.labeled, self.validation):
            digest.update(positions.astype("<i8").tobytes() + b";")
        return digest.hexdigest()


def shuffle_by_class(targets: np.ndarray, classes: int, split_seed: int) -> list[np.ndarray]:
    """The positions of each class in a random order that depends on `split_seed` and the targets only."""
    rng = numpy_generator(split_seed, SplitStream.IMAGE_ORDER)
    return [rng.permutation(np.flatnonzero(targets == c)) for c in range(classes)]


def rank_images(by_class: list[np.ndarray], split_seed: int) -> np.ndarray:
    """All positions, int64, in an order whose every prefix is balanced by class to ±1, until a class is exhausted.

    Splits taken as prefixes of this ranking are nested.
    """
    order = numpy_generator(split_seed, SplitStream.CLASS_ORDER).permutation(len(by_class))
    turn = np.concatenate([np.arange(len(by_class[c])) for c in order])
    place = np.concatenate([np.full(len(by_class[c]), k) for k, c in enumerate(order)])
    return np.concatenate([by_class[c] for c in order])[np.lexsort((place, turn))]


def apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` among classes in proportion to `sizes`, by the largest-remainder method: int64, one per class."""
    exact = sizes * total / sizes.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def draw(data: Dataset, *, label: int | str, split_seed: int, validation: int, labeled_in_unlabeled: bool) -> Split:
    """Draw a class-balanced split of the training part.

    The first `label` images of a ranking are labeled, so for one `split_seed` smaller sets are contained in larger
    ones. Validation images are taken from the other end of each class, in proportion to the class sizes, so they do
    not depend on `label`, nor the labeled images on `validation`.
    Raises UserError if `label` is smaller than the number of classes, or if there are not enough images with a label.
    """
    targets, classes = data.train.targets, len(data.classes)
    by_class = shuffle_by_class(targets, classes, split_seed)
    sizes = np.array([len(positions) for positions in by_class])
    available = int(sizes.sum())
    if validation >= available:
        raise UserError(f"validation={validation}: {data.name} has {available} images with labels; choose fewer")
    tails = [p[len(p) - count :] for p, count in zip(by_class, apportion(sizes, validation), strict=True)]
    held_out = np.sort(np.concatenate(tails))
    if label == "all":
        labeled = np.setdiff1d(np.concatenate(by_class), held_out)
    else:
        check_count(data.name, label, classes, available, validation)
        labeled = np.sort(rank_images(by_class, split_seed)[:label])
        if len(np.intersect1d(labeled, held_out)):
            raise UserError(
                f"label={label} with validation={validation}: a class of {data.name} has too few images; "
                "use a smaller label or validation"
            )
    return make_split(data.train, labeled, held_out, labeled_in_unlabeled, classes)


def check_count(name: str, label: int, classes: int, available: int, validation: int) -> None:
    """Raise UserError if `label` is too small or too large. available: the number of images with a label."""
    if label < classes:
        raise UserError(
            f"label={label}: {name} has {classes} classes and needs at least one label for each; use {classes} or more"
        )
    if label > available - validation:
        limit = f"{available} images with labels" + (f", {validation} of them held out" if validation else "")
        raise UserError(f"label={label}: {name} has {limit}; use at most {available - validation}, or label=all")


def make_split(
    train: Images, labeled: np.ndarray, held_out: np.ndarray, labeled_in_unlabeled: bool, classes: int
) -> Split:
    """Complete a split with its unlabeled images, and with a note if the labeled images are not balanced by class."""
    excluded = held_out if labeled_in_unlabeled else np.concatenate([held_out, labeled])
    unlabeled = np.setdiff1d(np.arange(len(train.targets)), excluded)
    counts = np.bincount(train.targets[labeled], minlength=classes)
    notes = []
    if counts.min() != counts.max():
        notes.append(f"the labels are not balanced by class: {counts.min()} to {counts.max()} per class")
    return Split(labeled=labeled, unlabeled=unlabeled, validation=held_out, notes=notes)


def write(path: Path, data: Dataset, split: Split, settings: dict) -> None:
    """Write split.json: `settings` (label, split_seed, …), all positions, and the labeled images' names and classes."""
    names, targets = data.train.names, data.train.targets
    content = {
        "format": FORMAT,
        "dataset": data.name,
        "images": len(targets),
        **({"duplicates": data.duplicates} if data.duplicates is not None else {}),
        **settings,
        "unlabeled": len(split.unlabeled),
        "labeled": split.labeled.tolist(),
        "labeled_names": [names[i] for i in split.labeled],
        "labeled_classes": [data.classes[targets[i]] for i in split.labeled],
        "validation": split.validation.tolist(),
    }
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read(path: Path, data: Dataset, *, labeled_in_unlabeled: bool) -> Split:
    """Read a split.json, or a text list with one image name and class per line (the format of the paper's authors).

    Raises UserError if the file is missing, has neither format, or does not match the images and labels of `data`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"split={path}: cannot be read ({error.__class__.__name__}); use a split.json or a text list"
        ) from None
    if text.lstrip().startswith("{"):
        labeled, held_out = parse_json(path, text, data)
    else:
        labeled, held_out = parse_list(path, text, data), np.empty(0, np.int64)
    return make_split(data.train, labeled, held_out, labeled_in_unlabeled, len(data.classes))


def parse_json(path: Path, text: str, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The labeled and the validation positions in a split.json, int64 and sorted."""
    try:
        content = json.loads(text)
        labeled = np.array(content["labeled"], np.int64)
        held_out = np.array(content["validation"], np.int64)
        identities = list(zip(content["labeled_names"], content["labeled_classes"], strict=True))
        images, dataset = content["images"], content["dataset"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"split={path}: not a split file of this program ({error!r}); use a split.json that it wrote"
        ) from None
    if not matches(data, labeled, held_out, identities, images):
        raise UserError(f"split={path}: made for {dataset} with {images} images, which does not match this {data.name}")
    return np.sort(labeled), np.sort(held_out)


def matches(
    data: Dataset, labeled: np.ndarray, held_out: np.ndarray, identities: list[tuple[str, str]], images: int
) -> bool:
    """Whether stored positions are valid for `data`. identities: stored names and classes of the labeled images."""
    train, positions = data.train, np.concatenate([labeled, held_out])
    if images != len(train.targets) or not len(labeled) or len(labeled) != len(identities):
        return False
    if len(np.unique(positions)) != len(positions) or positions.min() < 0 or positions.max() >= images:
        return False
    if train.targets[positions].min() < 0:
        return False
    return [(train.names[i], data.classes[train.targets[i]]) for i in labeled] == identities


def parse_list(path: Path, text: str, data: Dataset) -> np.ndarray:
    """The positions named by a text list, int64 and sorted. Images may be named without folder if that is unique."""
    positions = {name: i for i, name in enumerate(data.train.names)}
    counts = Counter(Path(name).name for name in positions)
    by_file = {file: i for name, i in positions.items() if counts[file := Path(name).name] == 1}
    labeled = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip()
        index = positions.get(name, by_file.get(name))
        if index is None:
            raise UserError(f"split={path}, line {number}: no single training image of {data.name} is named {name!r}")
        actual = data.classes[data.train.targets[index]] if data.train.targets[index] >= 0 else "unlabeled"
        if label != actual:
            raise UserError(f"split={path}, line {number}: {name} is {actual} in {data.name}, not {label!r}")
        labeled.append(index)
    if not labeled or len(set(labeled)) != len(labeled):
        problem = "an image is listed twice" if labeled else "the list names no image"
        raise UserError(f"split={path}: {problem}")
    return np.sort(np.array(labeled, np.int64))


def hold_out_fifth(*, names: list[str], targets: np.ndarray) -> np.ndarray:
    """A fixed test part for data that has none: bool [N], True for a fifth of each class (at least one image of two).

    The images whose names have the lowest hashes are held out. The choice depends on the names and targets alone: not
    on a seed, the order of the images, or the version of a library.
    """
    hashes = [hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest() for name in names]
    ranks = np.frombuffer(b"".join(hashes), dtype=">u8")
    held_out = np.zeros(len(names), dtype=bool)
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        count = max(round(len(rows) / 5), 1) if len(rows) > 1 else 0
        held_out[rows[np.argsort(ranks[rows])[:count]]] = True
    return held_out

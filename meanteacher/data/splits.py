"""Which images are labeled, unlabeled and held out: drawn from the data and `split_seed` alone, or read from a file."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data import Dataset, Images

FORMAT = "meanteacher split 1"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Sorted int64 positions in the training part. labeled and validation are disjoint; unlabeled never holds validation."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray
    notes: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """10 hexadecimal digits over which images are labeled and which are held out."""
        found = hashlib.blake2b(digest_size=5)
        for positions in (self.labeled, self.validation):
            found.update(positions.astype("<i8").tobytes() + b";")
        return found.hexdigest()


def shuffled_by_class(targets: np.ndarray, classes: int, split_seed: int) -> list[np.ndarray]:
    """For each class its labeled-able positions in a random order that depends on `split_seed` and the targets only."""
    rng = np.random.default_rng([split_seed, 1])
    return [rng.permutation(np.flatnonzero(targets == c)) for c in range(classes)]


def ranking(by_class: list[np.ndarray], split_seed: int) -> np.ndarray:
    """All labeled-able positions so that every beginning is balanced by class to ±1 (while a class lasts): nested splits."""
    order = np.random.default_rng([split_seed, 2]).permutation(len(by_class))
    turn = np.concatenate([np.arange(len(by_class[c])) for c in order])
    place = np.concatenate([np.full(len(by_class[c]), k) for k, c in enumerate(order)])
    return np.concatenate([by_class[c] for c in order])[np.lexsort((place, turn))]


def proportional(sizes: np.ndarray, total: int) -> np.ndarray:
    """`total` dealt to classes in proportion to `sizes`, by largest remainder."""
    exact = sizes * total / sizes.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def draw(data: Dataset, *, label: int | str, split_seed: int, validation: int, labeled_in_unlabeled: bool) -> Split:
    """A class-balanced split of the training part.

    The first `label` images of a ranking are labeled, so smaller sets are inside larger ones for one seed. Validation is
    taken from the other end of each class, in proportion to the classes, so it changes neither with nor by `label`.
    Raises UserError where `label` is below one a class or where there are not enough labeled images.
    """
    targets, classes = data.train.targets, len(data.classes)
    by_class = shuffled_by_class(targets, classes, split_seed)
    sizes = np.array([len(members) for members in by_class])
    available = int(sizes.sum())
    if validation >= available:
        raise UserError(f"validation={validation}: {data.name} has {available} images with labels; choose fewer")
    held = [m[len(m) - v :] for m, v in zip(by_class, proportional(sizes, validation), strict=True)]
    held_out = np.sort(np.concatenate(held))
    if label == "all":
        labeled = np.setdiff1d(np.concatenate(by_class), held_out)
    else:
        check_count(data.name, label, classes, available, validation)
        labeled = np.sort(ranking(by_class, split_seed)[:label])
        if len(np.intersect1d(labeled, held_out)):
            raise UserError(
                f"label={label} with validation={validation}: a class of {data.name} is too small; lower one"
            )
    return finish(data.train, labeled, held_out, labeled_in_unlabeled, classes)


def check_count(name: str, label: int, classes: int, available: int, validation: int) -> None:
    if label < classes:
        raise UserError(
            f"label={label}: {name} has {classes} classes and needs at least one label each; use {classes} or more"
        )
    if label > available - validation:
        most = f"{available} images with labels" + (f", {validation} of them held out" if validation else "")
        raise UserError(f"label={label}: {name} has {most}; use at most {available - validation}, or label=all")


def finish(train: Images, labeled: np.ndarray, held_out: np.ndarray, labeled_in_unlabeled: bool, classes: int) -> Split:
    excluded = held_out if labeled_in_unlabeled else np.concatenate([held_out, labeled])
    unlabeled = np.setdiff1d(np.arange(len(train.targets)), excluded)
    counts = np.bincount(train.targets[labeled], minlength=classes)
    notes = []
    if counts.min() != counts.max():
        notes.append(f"labels do not divide evenly by class: {counts.min()} to {counts.max()} a class")
    return Split(labeled=labeled, unlabeled=unlabeled, validation=held_out, notes=notes)


def write(path: Path, data: Dataset, split: Split, settings: dict) -> None:
    """split.json: settings (label, split_seed, …), positions, and the labeled images' names and classes."""
    names, targets = data.train.names, data.train.targets
    content = {
        "format": FORMAT,
        "dataset": data.name,
        "images": len(targets),
        **settings,
        "unlabeled": len(split.unlabeled),
        "labeled": split.labeled.tolist(),
        "labeled_names": [names[i] for i in split.labeled],
        "labeled_classes": [data.classes[targets[i]] for i in split.labeled],
        "validation": split.validation.tolist(),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path, data: Dataset, *, labeled_in_unlabeled: bool) -> Split:
    """A split from our JSON, or from a text list with an image name and a class a line (the paper authors' format).

    Raises UserError where the file is missing, of neither form, or made for other images or labels.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"split={path}: cannot be read ({error.__class__.__name__}); give a split.json or a text list"
        ) from None
    if text.lstrip().startswith("{"):
        labeled, held_out = from_json(path, text, data)
    else:
        labeled, held_out = from_list(path, text, data), np.empty(0, np.int64)
    return finish(data.train, labeled, held_out, labeled_in_unlabeled, len(data.classes))


def from_json(path: Path, text: str, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    try:
        content = json.loads(text)
        labeled = np.array(content["labeled"], np.int64)
        held_out = np.array(content["validation"], np.int64)
        expected = list(zip(content["labeled_names"], content["labeled_classes"], strict=True))
        images, made_for = content["images"], content["dataset"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"split={path}: not a split file of this program ({error!r}); give a split.json it wrote"
        ) from None
    wrong = UserError(f"split={path}: made for {made_for} with {images} images, which this {data.name} does not match")
    count = len(data.train.targets)
    positions = np.concatenate([labeled, held_out])
    if (
        images != count
        or not len(labeled)
        or len(labeled) != len(expected)
        or len(np.unique(positions)) != len(positions)
    ):
        raise wrong
    if positions.min() < 0 or positions.max() >= count or data.train.targets[positions].min() < 0:
        raise wrong
    if [(data.train.names[i], data.classes[data.train.targets[i]]) for i in labeled] != expected:
        raise wrong
    return np.sort(labeled), np.sort(held_out)


def from_list(path: Path, text: str, data: Dataset) -> np.ndarray:
    exact = {name: i for i, name in enumerate(data.train.names)}
    by_file: dict[str, int | None] = {}
    for name, i in exact.items():
        file = Path(name).name
        by_file[file] = None if file in by_file else i
    labeled = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip()
        index = exact.get(name, by_file.get(name))
        if index is None:
            raise UserError(f"split={path}, line {number}: no single training image of {data.name} is named {name!r}")
        actual = data.classes[data.train.targets[index]] if data.train.targets[index] >= 0 else "unlabeled"
        if label != actual:
            raise UserError(f"split={path}, line {number}: {name} is {actual} in {data.name}, not {label!r}")
        labeled.append(index)
    if not labeled or len(set(labeled)) != len(labeled):
        raise UserError(f"split={path}: " + ("an image is listed twice" if labeled else "the list names no image"))
    return np.sort(np.array(labeled, np.int64))


def fifth(*, names: list[str], targets: np.ndarray) -> np.ndarray:
    """bool [N], True for the fifth of each class (at least one of two) whose names hash lowest.

    It depends on the names alone: on no seed, no order and no library's version.
    """
    hashes = [hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest() for name in names]
    ranks = np.frombuffer(b"".join(hashes), dtype=">u8")
    chosen = np.zeros(len(names), dtype=bool)
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        count = max(round(len(rows) / 5), 1) if len(rows) > 1 else 0
        chosen[rows[np.argsort(ranks[rows])[:count]]] = True
    return chosen

"""The split of the training part into labeled, unlabeled and validation images.

A split is drawn from the targets and `split_seed` alone, or read from a file.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.data.images import Dataset, Images
from meanteacher.data.label_lists import read_label_list
from meanteacher.data.random_streams import SplitStream, numpy_generator
from meanteacher.data.rankings import draw_long_tail, rank_images
from meanteacher.data.scenario import draw_unlabeled

FORMAT = "meanteacher split 1"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions in the training part, each array int64 and sorted.

    labeled and validation are disjoint; unlabeled contains no validation image. every_unlabeled: whether unlabeled
    holds every image that it may. notes: sentences the user should read.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray
    every_unlabeled: bool = True
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


def apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` among classes in proportion to `sizes`, by the largest-remainder method: int64, one per class."""
    exact = sizes * total / sizes.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def draw(
    data: Dataset,
    *,
    label: int | str,
    split_seed: int,
    validation: int,
    labeled_in_unlabeled: bool,
    imbalance: float | None = None,
    **unlabeled_options: int | float | None,
) -> Split:
    """Draw a split of the training part, class-balanced or, with `imbalance`, long-tailed.

    The first `label` images of a ranking are labeled, so for one `split_seed` smaller sets are contained in larger
    ones. Validation images are taken from the other end of each class, in proportion to the class sizes, so they do
    not depend on `label`, nor the labeled images on `validation`. With `imbalance`, label=all takes the most images
    that are long-tailed. unlabeled_options: those of `draw_unlabeled`.
    Raises UserError if `label` is smaller than the number of classes, or if there are not enough images with a label.
    """
    by_class = shuffle_by_class(data.train.targets, len(data.classes), split_seed)
    sizes = np.array([len(positions) for positions in by_class])
    available = int(sizes.sum())
    if validation >= available:
        raise UserError(f"validation={validation}: {data.name} has {available} images with labels; choose fewer")
    held_counts = apportion(sizes, validation)
    tails = [p[len(p) - count :] for p, count in zip(by_class, held_counts, strict=True)]
    held_out = np.sort(np.concatenate(tails))
    labeled = draw_labeled(data, by_class, held_counts, label, split_seed, imbalance)
    if len(np.intersect1d(labeled, held_out)):
        raise UserError(
            f"label={label} with validation={validation}: a class of {data.name} has too few images; "
            "use a smaller label or validation"
        )
    unlabeled = None
    if any(value is not None for value in unlabeled_options.values()):
        eligible = unlabeled_positions(data.train, labeled, held_out, labeled_in_unlabeled)
        options = dict.fromkeys(("unlabeled", "mismatch", "unlabeled_imbalance")) | unlabeled_options
        unlabeled = draw_unlabeled(data, eligible, split_seed, **options)
    return make_split(data, labeled, held_out, labeled_in_unlabeled, unlabeled)


def draw_labeled(
    data: Dataset,
    by_class: list[np.ndarray],
    held_counts: np.ndarray,
    label: int | str,
    split_seed: int,
    imbalance: float | None,
) -> np.ndarray:
    """The labeled positions, int64 and sorted. held_counts: how many images at the end of each class are held out."""
    sizes = np.array([len(positions) for positions in by_class]) - held_counts
    if label != "all":
        check_count(data.name, label, len(data.classes), int(sizes.sum() + held_counts.sum()), int(held_counts.sum()))
    if imbalance is not None:
        return draw_long_tail(data.name, by_class, sizes, label, split_seed, imbalance)
    if label == "all":
        return np.sort(np.concatenate([p[:size] for p, size in zip(by_class, sizes, strict=True)]))
    return np.sort(rank_images(by_class, split_seed, np.ones(len(by_class)))[0][:label])


def check_count(name: str, label: int, classes: int, available: int, validation: int) -> None:
    """Raise UserError if `label` is too small or too large. available: the number of images with a label."""
    if label < classes:
        raise UserError(
            f"label={label}: {name} has {classes} classes and needs at least one label for each; use {classes} or more"
        )
    if label > available - validation:
        limit = f"{available} images with labels" + (f", {validation} of them held out" if validation else "")
        raise UserError(f"label={label}: {name} has {limit}; use at most {available - validation}, or label=all")


def unlabeled_positions(
    train: Images, labeled: np.ndarray, held_out: np.ndarray, labeled_in_unlabeled: bool
) -> np.ndarray:
    """All positions that may be used as unlabeled images, int64 and sorted."""
    excluded = held_out if labeled_in_unlabeled else np.concatenate([held_out, labeled])
    return np.setdiff1d(np.arange(len(train.targets)), excluded)


def make_split(
    data: Dataset,
    labeled: np.ndarray,
    held_out: np.ndarray,
    labeled_in_unlabeled: bool,
    unlabeled: np.ndarray | None = None,
) -> Split:
    """Complete a split, with a note if the labeled images are not balanced by class.

    unlabeled: the positions that were drawn, or None to use all that are possible.
    """
    every = unlabeled_positions(data.train, labeled, held_out, labeled_in_unlabeled)
    counts = np.bincount(data.train.targets[labeled], minlength=len(data.classes))
    notes = []
    if counts.min() != counts.max():
        notes.append(f"the labels are not balanced by class: {counts.min()} to {counts.max()} per class")
    chosen = every if unlabeled is None else np.intersect1d(unlabeled, every)
    return Split(labeled=labeled, unlabeled=chosen, validation=held_out, every_unlabeled=unlabeled is None, notes=notes)


def write(path: Path, data: Dataset, split: Split, settings: dict) -> None:
    """Write split.json: `settings` (label, split_seed, …), all positions, and the labeled images' names and classes.

    The positions of the unlabeled images are written where these are not all that are possible.
    """
    names, targets = data.train.names, data.train.targets
    content = {
        "format": FORMAT,
        "dataset": data.name,
        "images": len(targets),
        "classes": data.classes,
        **({"duplicates": data.duplicates} if data.duplicates is not None else {}),
        **({"broken": data.broken} if data.broken else {}),
        **settings,
        "unlabeled": len(split.unlabeled),
        "labeled": split.labeled.tolist(),
        "labeled_names": [names[i] for i in split.labeled],
        "labeled_classes": [data.classes[targets[i]] for i in split.labeled],
        "validation": split.validation.tolist(),
    }
    if not split.every_unlabeled:
        content["unlabeled_positions"] = split.unlabeled.tolist()
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read(path: Path, data: Dataset, *, labeled_in_unlabeled: bool) -> Split:
    """Read a split.json, a text list with one image name and class per line (the format of the paper's authors), or a
    table, CSV with the columns `path`, `label` and, optionally, `part`.

    If a table has unlabeled images, only those are used as unlabeled ones, beside the labeled ones.
    Raises UserError if the file is missing, has neither format, or does not match the images and labels of `data`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"split={path}: cannot be read ({error.__class__.__name__}); use a split.json, a text list or a table"
        ) from None
    if text.lstrip().startswith("{"):
        return parse_json(path, text, data, labeled_in_unlabeled)
    listed = read_label_list(path, text, data)
    labeled, validation = (np.sort(np.array(part, np.int64)) for part in (listed.labeled, listed.validation))
    some = listed.unlabeled and len(listed) < len(data.train.targets)
    unlabeled = np.array(listed.labeled + listed.unlabeled, np.int64) if some else None
    return make_split(data, labeled, validation, labeled_in_unlabeled, unlabeled)


def parse_json(path: Path, text: str, data: Dataset, labeled_in_unlabeled: bool) -> Split:
    """The split that a split.json holds."""
    try:
        content = json.loads(text)
        labeled, held_out = parse_positions(content["labeled"]), parse_positions(content["validation"])
        unlabeled = content.get("unlabeled_positions")
        unlabeled = None if unlabeled is None else parse_positions(unlabeled)
        identities = list(zip(content["labeled_names"], content["labeled_classes"], strict=True))
        images, dataset, classes = content["images"], content["dataset"], list(content.get("classes", data.classes))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"split={path}: not a split file of this program ({error!r}); use a split.json that it wrote"
        ) from None
    if not matches(data, labeled, held_out, unlabeled, identities, images):
        raise UserError(f"split={path}: made for {dataset} with {images} images, which does not match this {data.name}")
    if classes != data.classes:
        raise UserError(
            f"split={path}: made for {len(classes)} classes with labels, not {len(data.classes)}; "
            "in place of the file, use the mismatch and split_seed that it was drawn with"
        )
    return make_split(data, np.sort(labeled), np.sort(held_out), labeled_in_unlabeled, unlabeled)


def parse_positions(values: list) -> np.ndarray:
    """The positions as int64 [N]. Raises TypeError if they are not a list of integers, OverflowError for huge ones."""
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise TypeError("positions must be a list of integers")
    return np.array(values, np.int64)


def matches(
    data: Dataset,
    labeled: np.ndarray,
    held_out: np.ndarray,
    unlabeled: np.ndarray | None,
    identities: list[tuple[str, str]],
    images: int,
) -> bool:
    """Whether stored positions are valid for `data`. identities: stored names and classes of the labeled images."""
    train, positions = data.train, np.concatenate([labeled, held_out])
    if images != len(train.targets) or not len(labeled) or len(labeled) != len(identities):
        return False
    if len(np.unique(positions)) != len(positions) or positions.min() < 0 or positions.max() >= images:
        return False
    if train.targets[positions].min() < 0:
        return False
    if unlabeled is not None and (len(np.unique(unlabeled)) != len(unlabeled) or not in_range(unlabeled, images)):
        return False
    return [(train.names[i], data.classes[train.targets[i]]) for i in labeled] == identities


def in_range(positions: np.ndarray, images: int) -> bool:
    return not len(positions) or bool(positions.min() >= 0 and positions.max() < images)


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

"""Realistic label and image sets: few unlabeled images, images of classes without labels, and long-tailed classes.

All choices depend on the data, `split_seed` and the options alone. Options: `unlabeled`, the number of unlabeled
images; `mismatch`, the share of them that comes from classes without labels (Oliver et al. 2018, arXiv 1804.09170,
section 4.4); `imbalance` and `unlabeled_imbalance`, the ratio γ of the largest class to the smallest.
"""

from dataclasses import replace

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.images import OTHER_CLASS, Dataset, Images
from meanteacher.data.random_streams import SplitStream, numpy_generator
from meanteacher.data.rankings import longest_tail, rank_by_weight, tail_weights

LABELED_CLASSES = {"cifar10": ("bird", "cat", "deer", "dog", "frog", "horse")}
"""The classes with labels in Oliver et al. (2018), by the name of the data set: CIFAR-10's six animals."""

SHARE_LABELED = 0.6
"""The share of the classes that have labels in other data sets, as in CIFAR-10."""


def split_classes(data: Dataset, split_seed: int) -> Dataset:
    """The data set without the labels of some classes: its `classes` are those with labels, in their order.

    The training images of the other classes get the target −2, and their test images move from `test` to
    `unknown_test`. Raises UserError if a training image has no label already or if there are fewer than three classes.
    """
    if data.train.targets.min() < 0:
        count = int((data.train.targets < 0).sum())
        raise UserError(
            f"mismatch: {count} training images of {data.name} have no label, so their classes are unknown; "
            "use a data set in which every training image has one"
        )
    if len(data.classes) < 3:
        raise UserError(
            f"mismatch: {data.name} has {len(data.classes)} classes, but at least two with labels and one without are "
            "needed; use a data set with three classes or more"
        )
    kept = choose_classes(data, split_seed)
    new_targets = np.full(len(data.classes), OTHER_CLASS)
    new_targets[kept] = np.arange(len(kept))
    names = [data.classes[c] for c in kept]
    known_test = np.isin(data.test.targets, kept)
    note = f"classes with labels: {', '.join(names)}; the other {len(data.classes) - len(kept)} have none"
    return replace(
        data,
        classes=names,
        train=replace(data.train, targets=new_targets[data.train.targets]),
        test=select(data.test, np.flatnonzero(known_test), new_targets),
        unknown_test=select(data.test, np.flatnonzero(~known_test), new_targets),
        notes=[*data.notes, note],
    )


def choose_classes(data: Dataset, split_seed: int) -> np.ndarray:
    """The classes that keep their labels, int64 and sorted: those of the literature, else 60 % chosen by the seed."""
    if set(names := LABELED_CLASSES.get(data.name, ())) & set(data.classes):
        return np.sort([data.classes.index(name) for name in names])
    order = numpy_generator(split_seed, SplitStream.LABELED_CLASSES).permutation(len(data.classes))
    return np.sort(order[: round(SHARE_LABELED * len(data.classes))])


def select(images: Images, rows: np.ndarray, new_targets: np.ndarray) -> Images:
    """Copy these rows, int64 [M]. new_targets: the new target of each old one."""
    targets = new_targets[images.targets[rows]]
    return Images(pixels=images.pixels[rows], targets=targets, names=[images.names[row] for row in rows])


def draw_unlabeled(
    data: Dataset,
    eligible: np.ndarray,
    split_seed: int,
    *,
    unlabeled: int | None,
    mismatch: float | None,
    unlabeled_imbalance: float | None,
) -> np.ndarray:
    """Draw the unlabeled images from the positions `eligible`: int64, sorted.

    Each group, images of the labeled classes and others, has one random order and is taken from its start. So for one
    `split_seed` and the same other options, fewer images are contained in more. Without `unlabeled`, as many as
    possible are taken; with `mismatch`, as many as every share can have, so that the number does not depend on it.
    Raises UserError if there are too few images.
    """
    order = numpy_generator(split_seed, SplitStream.UNLABELED_ORDER).permutation(len(data.train.targets))
    order = order[np.isin(order, eligible)]
    targets = data.train.targets[order]
    known, unknown = order, order[:0]
    if mismatch is not None:
        known, unknown = order[targets >= 0], order[targets < 0]
    if unlabeled_imbalance is not None:
        known = draw_tail(data, known, unlabeled_imbalance)
    total = unlabeled or (len(known) if mismatch is None else min(len(known), len(unknown)))
    from_unknown = int(np.floor((mismatch or 0) * total + 0.5))
    check_enough(data.name, total, from_unknown, len(known), len(unknown), mismatch, unlabeled_imbalance)
    return np.sort(np.concatenate([known[: total - from_unknown], unknown[:from_unknown]]))


def draw_tail(data: Dataset, known: np.ndarray, imbalance: float) -> np.ndarray:
    """The longest ranking of the positions `known` whose every prefix is long-tailed. Raises UserError without labels.

    Within a class, the images keep their order.
    """
    targets = data.train.targets[known]
    if targets.min() < 0:
        raise UserError(
            f"unlabeled_imbalance: {int((targets < 0).sum())} training images of {data.name} have no label, so their "
            "classes are unknown; use a data set in which every training image has one"
        )
    by_class = [known[targets == c] for c in range(len(data.classes))]
    weights = tail_weights(len(data.classes), imbalance)
    ranking, keys = rank_by_weight(by_class, weights, np.arange(len(by_class)))
    return ranking[: longest_tail(keys, np.array([len(c) for c in by_class]), weights)]


def check_enough(
    name: str,
    total: int,
    from_unknown: int,
    known: int,
    unknown: int,
    mismatch: float | None,
    unlabeled_imbalance: float | None,
) -> None:
    """Raise UserError if fewer images are available than are needed. known, unknown: the available ones."""
    if total - from_unknown <= known and from_unknown <= unknown:
        return
    options = {"mismatch": mismatch, "unlabeled_imbalance": unlabeled_imbalance}
    chosen = "".join(f" with {key}={value:g}" for key, value in options.items() if value is not None)
    parts = f"{known} for it" if mismatch is None else f"{known} of labeled classes and {unknown} of other classes"
    raise UserError(f"unlabeled={total}{chosen}: {name} has only {parts}; use fewer")

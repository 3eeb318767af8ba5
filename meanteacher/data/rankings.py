"""Orders of images whose prefixes have given class sizes, so that sets taken from their start are nested."""

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.random_streams import SplitStream, numpy_generator


def rank_images(by_class: list[np.ndarray], split_seed: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positions, int64, in an order whose prefixes have the class sizes `weights` up to rounding; and their keys.

    Equal weights give prefixes that are balanced by class to ±1, until a class is exhausted. Splits taken as prefixes
    of this ranking are nested. See `rank_by_weight`.
    """
    order = numpy_generator(split_seed, SplitStream.CLASS_ORDER).permutation(len(by_class))
    return rank_by_weight(by_class, weights, order)


def tail_weights(classes: int, imbalance: float) -> np.ndarray:
    """Relative class sizes N_k / N_1 = γ^(−(k−1)/(K−1)) for k = 1 … K: float64 [classes]."""
    return imbalance ** (-np.arange(classes) / max(classes - 1, 1))


def rank_by_weight(by_class: list[np.ndarray], weights: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positions in an order whose every prefix has the class sizes `weights` up to rounding; and their keys.

    The j-th image of class k (from 0) has the key (j + ½) / w_k, and the keys are sorted: the divisor method of
    Webster and Sainte-Laguë. Counts never shrink when the total grows, so that prefixes are nested. Ties are broken by
    the place of the class in `order`. Keys: float64, ascending.
    """
    keys = np.concatenate([(np.arange(len(by_class[c])) + 0.5) / weights[c] for c in order])
    place = np.concatenate([np.full(len(by_class[c]), k) for k, c in enumerate(order)])
    ranks = np.lexsort((place, keys))
    return np.concatenate([by_class[c] for c in order])[ranks], keys[ranks]


def longest_tail(keys: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> int:
    """How many images of a ranking can be taken before a class runs out and the sizes no longer follow `weights`."""
    return int((keys < ((sizes + 0.5) / weights).min()).sum())


def draw_long_tail(
    name: str, by_class: list[np.ndarray], sizes: np.ndarray, label: int | str, split_seed: int, imbalance: float
) -> np.ndarray:
    """Labeled positions, int64 and sorted, whose class sizes fall from the first class to the last by `imbalance`.

    name: of the data set. sizes: how many images of each class may be labeled. Raises UserError if a class has too few
    images or would get no label.
    """
    weights = tail_weights(len(by_class), imbalance)
    ranking, keys = rank_images(by_class, split_seed, weights)
    most = longest_tail(keys, sizes, weights)
    total = most if label == "all" else label
    if total > most:
        raise UserError(
            f"label={label} with imbalance={imbalance:g}: {name} has images for at most {most} labels; use fewer"
        )
    least = int(np.searchsorted(keys, 0.5 / weights[-1], side="right"))
    if total < least:
        raise UserError(
            f"label={label} with imbalance={imbalance:g}: the smallest class would get no label; use a label of "
            f"{least} or more, or a smaller imbalance"
        )
    return np.sort(ranking[:total])

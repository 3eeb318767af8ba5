"""What a predictor says about some images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a prediction counts as unsure, and which classes are listed. Without thresholds, no rule applies.

    least_confidence: an image whose largest probability is smaller is unsure. least_in_set: the set of an image holds
    the classes of at least this probability, and the most probable class in any case; with more than one class the
    image is unsure. text: how the thresholds came about, for a person.
    """

    least_confidence: float | None = None
    least_in_set: float | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions for N images, in their order.

    classes: the K names; probabilities: float32 [N, K] on the CPU, calibrated where the run had validation images; for
    an image that could not be read they are NaN. errors: why an image could not be read, None for all others.
    """

    classes: list[str]
    probabilities: Tensor
    errors: list[str | None]
    rule: Rule

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def readable(self) -> np.ndarray:
        """bool [N]: whether the image could be read."""
        return np.array([error is None for error in self.errors], bool)

    @property
    def names(self) -> list[str | None]:
        """The name of the most probable class of each image; None for an image that could not be read."""
        best = self.probabilities.nan_to_num(-1).argmax(dim=1).tolist()
        return [self.classes[c] if error is None else None for c, error in zip(best, self.errors, strict=True)]

    @property
    def confidences(self) -> Tensor:
        """The largest probability of each image, float32 [N]."""
        return self.probabilities.amax(dim=1)

    @property
    def sets(self) -> list[list[str]] | None:
        """The classes that the true one is among with the wanted coverage, most probable first; None without it."""
        if self.rule.least_in_set is None:
            return None
        ordered, ranks = self.probabilities.nan_to_num(-1).sort(dim=1, descending=True, stable=True)
        inside = (ordered >= self.rule.least_in_set).sum(dim=1).clamp(min=1).tolist()
        best = ranks.tolist()
        return [
            [self.classes[c] for c in best[row][: inside[row]]] if error is None else []
            for row, error in enumerate(self.errors)
        ]

    @property
    def unsure(self) -> np.ndarray | None:
        """bool [N]: images that the rule calls unsure, and those that could not be read; None without a rule."""
        if self.rule.least_confidence is not None:
            return ~(self.confidences.numpy() >= self.rule.least_confidence)
        sets = self.sets
        return None if sets is None else np.array([len(names) != 1 for names in sets], bool)

    def rows(self) -> Iterator[dict[str, str]]:
        """A row for each image, as text: the columns of `meanteacher predict` without the path."""
        columns = 2 if len(self.classes) > 1 else 1
        values, ranks = self.probabilities.nan_to_num(-1).topk(columns, dim=1)
        values, ranks = values.tolist(), ranks.tolist()
        unsure, sets = self.unsure, self.sets
        for row, error in enumerate(self.errors):
            cells = dict.fromkeys(("class", "probability", "second_class", "second_probability"), "")
            if error is None:
                chosen = [
                    cell for k in range(columns) for cell in (self.classes[ranks[row][k]], f"{values[row][k]:.4f}")
                ]
                cells |= dict(zip(cells, chosen, strict=False))
            if unsure is not None:
                cells["unsure"] = "" if error else "yes" if unsure[row] else "no"
            if sets is not None:
                cells["set"] = "|".join(sets[row])
            yield cells | {"error": error or ""}

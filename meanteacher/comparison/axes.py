"""The axis of a protocol: what its runs vary beside method and seed, the number of labels or one realistic option."""

from typing import NamedTuple

from meanteacher.comparison.identity import planned_fields
from meanteacher.comparison.settings import key, show
from meanteacher.config.added_keys import SCENARIO

LABEL = "label"

TITLES = {
    LABEL: "labels",
    "unlabeled": "unlabeled images",
    "mismatch": "mismatch",
    "imbalance": "imbalance",
    "unlabeled_imbalance": "unlabeled imbalance",
}
"""The heading of a column of points, by axis."""

DESCRIPTIONS = {
    LABEL: "labeled images",
    "unlabeled": "unlabeled images",
    "mismatch": "mismatch: share of the unlabeled images from classes without labels",
    "imbalance": "imbalance: labels of the largest class over those of the smallest",
    "unlabeled_imbalance": "unlabeled images of the largest class over those of the smallest",
}
"""The label of an axis in a picture."""

OF_UNLABELED_IMAGES = ("unlabeled", "mismatch", "unlabeled_imbalance")
"""Axes that change the unlabeled images only, so that a run without them counts at every point."""

NULL_POINTS = {"unlabeled": "all", "imbalance": 1}
"""The point at which a run lies where its option is null."""

Point = int | float | str


class OnAxis(NamedTuple):
    """Where a run lies: the axis, its point on it, and the protocol fields that it shares along the axis."""

    axis: str
    point: Point | None
    fields: dict


def place_on_axes(fields: list[dict], labels: list[int | str], finished: list[bool]) -> list[OnAxis]:
    """The axis and the point of each run. fields: `protocol_fields` of each run.

    A realistic option is an axis for runs that are equal in everything else, labels included, if finished runs have at
    least two values of it. The axis of all other runs is the number of labels.
    """
    placed = [OnAxis(LABEL, label, own) for own, label in zip(fields, labels, strict=True)]
    for axis in SCENARIO:
        groups: dict[str, list[int]] = {}
        for number, (own, label) in enumerate(zip(fields, labels, strict=True)):
            if placed[number].axis == LABEL and point_on(axis, own) is not None:
                groups.setdefault(key(planned_fields(along(own, axis, label))), []).append(number)
        for members in groups.values():
            if len({key(point_on(axis, fields[number])) for number in members if finished[number]}) >= 2:
                for number in members:
                    shared = along(fields[number], axis, labels[number])
                    placed[number] = OnAxis(axis, point_on(axis, fields[number]), shared)
    return placed


def point_on(axis: str, fields: dict) -> Point | None:
    """The point of a run on a realistic axis; None where its option is null and that is no point."""
    value = fields.get(axis)
    return NULL_POINTS.get(axis) if value is None else value


def along(fields: dict, axis: str, label: int | str) -> dict:
    """The protocol fields that runs along a realistic axis share."""
    return {name: value for name, value in fields.items() if name != axis} | {LABEL: label}


def point_order(point: Point) -> float:
    """Sort key of a point; `all` is last."""
    return float("inf") if point == "all" else float(point)


def point_text(axis: str, point: Point | None) -> str:
    """`20 labels`, `all labels`, `mismatch 0.5`, or nothing where the point is unknown."""
    if point is None:
        return ""
    if axis not in (LABEL, "unlabeled"):
        return f"{TITLES[axis]} {show(point)}"
    title = TITLES[axis].removesuffix("s") if point == 1 else TITLES[axis]
    return f"{show(point)} {title}"

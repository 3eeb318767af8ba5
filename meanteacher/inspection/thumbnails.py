"""The pictures of the page: images as training will see them, as data URIs."""

from dataclasses import dataclass

import numpy as np

from meanteacher.data.cache import map_in_threads
from meanteacher.data.data_uris import image_uri
from meanteacher.data.decoding import resize_image, silence_warnings
from meanteacher.data.listing import PARTS
from meanteacher.inspection.findings import Findings
from meanteacher.inspection.reading import reduce_image

MOST_CLASSES, OF_CLASS, UNLABELED = 100, 8, 24
"""Classes that are shown, images of each, and unlabeled images."""

GROUPS, OF_GROUP = 12, 4
"""Groups of copies that are shown, and images of each."""


@dataclass(frozen=True)
class Picture:
    """An image of the page. address: a data URI; name: of its file; place: its part and class."""

    address: str
    name: str
    place: str


@dataclass(frozen=True)
class Sheet:
    """A row of pictures under a heading. note: beside the heading."""

    heading: str
    note: str
    pictures: list[Picture]


def make_sheets(findings: Findings, overrides: dict[str, str]) -> tuple[list[Sheet], list[Sheet]]:
    """The contact sheet, a row per class and one of unlabeled images, and groups of copies.

    overrides: of the proposed run, which say how images are resized.
    """
    rows = choose_rows(findings)
    groups = choose_groups(findings)
    shown = sorted({row for chosen in (*rows.values(), *groups) for row in chosen})
    size, resize = int(overrides["dataset.image_size"]), overrides.get("dataset.resize", "crop")
    nbytes = sum(findings.source.files[row].size for row in shown)
    pictures = map_in_threads(
        function=lambda row: make_picture(findings, row, size, resize), items=shown, nbytes=nbytes, title="drawing"
    )
    by_row = dict(zip(shown, pictures, strict=True))
    counts = findings.counts["train"]
    notes = {name: f"{counts[target]:,} labels" for target, name in enumerate(findings.source.classes)}
    contacts = [
        Sheet(name or "unlabeled", notes.get(name, "no class is known"), [by_row[row] for row in chosen])
        for name, chosen in rows.items()
        if len(chosen)
    ]
    copies = [Sheet("", f"{len(group):,} images", [by_row[row] for row in group[:OF_GROUP]]) for group in groups]
    return contacts, copies


def choose_rows(findings: Findings) -> dict[str, np.ndarray]:
    """Images of each class, and unlabeled ones under an empty name, evenly over the list of files: int64."""
    source = findings.source
    rows = {name: source.rows("train", target) for target, name in enumerate(source.classes[:MOST_CLASSES])}
    rows[""] = source.rows("unlabeled")
    rows = {name: chosen[findings.decoded[chosen]] for name, chosen in rows.items()}
    return {name: spread(chosen, OF_CLASS if name else UNLABELED) for name, chosen in rows.items()}


def choose_groups(findings: Findings) -> list[np.ndarray]:
    """Groups of copies: those with several classes first, then those with test images, then the others."""
    test, conflicts = PARTS.index("test"), {group[0] for group in findings.copies.conflicts}

    def harm(group: np.ndarray) -> tuple[bool, bool]:
        parts = set(findings.source.parts[group].tolist())
        return group[0] in conflicts, test in parts and len(parts) > 1

    return [group[:] for group in sorted(findings.copies.near, key=harm, reverse=True)[:GROUPS]]


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly over all of them."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def make_picture(findings: Findings, row: int, size: int, resize: str) -> Picture:
    """One image, resized as training will do it."""
    from PIL import Image

    silence_warnings()
    source = findings.source
    with Image.open(source.path(row)) as file:
        pixels = resize_image(reduce_image(file, size), image_size=size, resize=resize)
    address = image_uri(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))))
    target = source.targets[row]
    place = PARTS[source.parts[row]] + (f", {source.classes[target]}" if target >= 0 else "")
    return Picture(address, source.files[row].name, place)

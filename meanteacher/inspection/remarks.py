"""What to check or fix before training, in sentences."""

import numpy as np

from meanteacher.data.listing import shorten
from meanteacher.inspection.copies import PAIRS
from meanteacher.inspection.findings import Findings

FEW = 20
"""Classes with fewer labels are named."""


def list_remarks(findings: Findings, image_size: int) -> list[str]:
    """The remarks, the most serious first. image_size: of the proposed run, in pixels."""
    source, counts = findings.source, findings.counts["train"]
    remarks = []
    if findings.broken:
        remarks.append(f"files that cannot be read: {len(findings.broken):,}; replace them, or leave them out")
    if conflicts := findings.copies.conflicts:
        example = " and ".join(printable(source.files[row].name) for row in conflicts[0][:2])
        remarks.append(f"images that lie in several classes, as copies: {len(conflicts):,}, for example {example}")
    for pair in PAIRS[:2]:
        exact, near = findings.copy_counts[pair]
        if near:
            copies = f"{pair[0]} images that are copies of test images: {near:,}, {exact:,} of them exact"
            remarks.append(f"{copies}; errors measured on these test images are too small")
    if findings.copies.all_alike:
        remarks.append("so many images look alike that near copies were not looked for, only exact ones")
    few = [f"{printable(source.classes[row])} ({counts[row]})" for row in np.argsort(counts) if counts[row] < FEW]
    if few:
        remarks.append(f"classes with fewer than {FEW} labels: {shorten(few)}; a few more help the most there")
    if smaller := int((findings.shorter_sides < image_size).sum()):
        remarks.append(f"images smaller than {image_size} pixels, which will be enlarged: {smaller:,}")
    if not findings.counts["unlabeled"].any():
        remarks.append("there are no unlabeled images; the training learns from those in a folder unlabeled/")
    return [*remarks, *source.notes]


def printable(name: str) -> str:
    """A name with every character that a terminal cannot show replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)

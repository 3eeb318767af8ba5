"""The page of an audit: what was found as pictures, in one static file."""

from dataclasses import dataclass
from pathlib import Path

from meanteacher.config.templates import render
from meanteacher.labeling.findings import Audit, Finding
from meanteacher.labeling.run_images import Place, RunImages
from meanteacher.labeling.thumbnails import thumbnails

MOST_SHOWN = 200
"""The most findings of each kind that the page shows. The table lists all of them."""

HEADINGS = {
    "label": (
        "Labels that may be wrong",
        "Most images that look alike to the network have another label. Least probable labels first.",
    ),
    "copy": (
        "Copies of labeled images",
        "Copies with different labels contradict each other; copies of test images make the measured error too small.",
    ),
    "foreign": (
        "Images that seem to belong to no class",
        "Their features are far from those of all labeled images. Rare images of a class look like this too.",
    ),
}


@dataclass(frozen=True)
class Card:
    """One finding on the page: pictures (data URIs) with their captions, and the lines below."""

    pictures: list[tuple[str, str]]
    lines: list[str]


@dataclass(frozen=True)
class Section:
    """All findings of one kind. total: how many there are, of which the first are shown."""

    heading: str
    explanation: str
    total: int
    cards: list[Card]


def render_audit_page(run: RunImages, audit: Audit) -> str:
    """The page of an audit."""
    sections = []
    for kind, (heading, explanation) in HEADINGS.items():
        findings = audit.of_kind(kind)
        places = [place for each in findings[:MOST_SHOWN] for place in (each.image, each.other) if place]
        pictures = dict(zip(places, thumbnails(run, places), strict=True))
        cards = [make_card(run, each, pictures) for each in findings[:MOST_SHOWN]]
        sections.append(Section(heading, explanation, len(findings), cards))
    return render(
        Path(__file__).with_name("audit.html.j2"),
        title=f"Audit of {len(run.known)} labels of {run.data.name}",
        run=str(run.folder),
        notes=audit.notes,
        sections=sections,
    )


def make_card(run: RunImages, finding: Finding, pictures: dict[Place, str]) -> Card:
    """The card of one finding. pictures: data URIs by image."""
    places = [place for place in (finding.image, finding.other) if place]
    return Card([(pictures[place], run.path_of(place)) for place in places], describe(finding))


def describe(finding: Finding) -> list[str]:
    """What a person should know of a finding, in short lines."""
    image, other = finding.image, finding.other
    if finding.kind == "label":
        doubt = "probably" if finding.confident else "perhaps"
        return [f"labeled {image.label} ({100 * finding.score:.0f} %)", f"{doubt} {finding.suggested}"]
    if finding.kind == "copy":
        kind = "same pixels" if finding.score else "similar"
        return [kind, f"{image.label} ({image.part}) and {other.label} ({other.part})"]
    return [f"labeled {image.label}" if image.label else "unlabeled", f"distance {finding.score:.2f}"]

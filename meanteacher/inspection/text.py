"""An inspection as text for a terminal."""

from textwrap import fill

from tabulate import tabulate

from meanteacher.config.formats import format_duration
from meanteacher.inspection.findings import Findings
from meanteacher.inspection.proposal import Proposal
from meanteacher.inspection.remarks import list_remarks, printable

WIDTH = 110
MOST_CLASSES, MOST_BROKEN = 30, 5
"""Classes and broken files that are listed; the page lists all of them."""


def summarize(findings: Findings) -> str:
    """The numbers of classes and images, in one line."""
    counts = {part: f"{int(findings.counts[part].sum()):,}" for part in findings.counts}
    images = f"{counts['train']} labeled, {counts['unlabeled']} unlabeled and {counts['test']} test images"
    return f"{len(findings.source.classes)} classes, {images}"


def describe_sizes(findings: Findings) -> str:
    """The sizes, formats and modes, in one line."""
    shorter = sorted(findings.shorter_sides)
    sizes = f"shorter side {shorter[0]} to {shorter[-1]} pixels, median {shorter[len(shorter) // 2]}"
    kinds = [", ".join(f"{name} {count:,}" for name, count in findings.count_values(x)) for x in ("format", "mode")]
    return f"{sizes}; {'; '.join(kinds)}; {findings.turned:,} turned by EXIF"


def describe_balance(findings: Findings) -> str:
    """The ratio of the largest class to the smallest, in one line."""
    counts, classes = findings.counts["train"], findings.source.classes
    largest, smallest = (f"{printable(classes[row])} ({counts[row]:,})" for row in (counts.argmax(), counts.argmin()))
    return f"{findings.imbalance:.1f} : 1, from {largest} to {smallest}"


def render_text(findings: Findings, proposal: Proposal) -> str:
    """The whole inspection."""
    counts, classes = findings.counts, findings.source.classes
    rows = [(printable(name), counts["train"][row], counts["test"][row]) for row, name in enumerate(classes)]
    table = tabulate(rows[:MOST_CLASSES], ("class", "train", "test"), disable_numparse=[0])
    if len(rows) > MOST_CLASSES:
        table += f"\n… and {len(rows) - MOST_CLASSES} more classes"
    lines = [f"{printable(findings.source.name)}: {summarize(findings)}", "", table, ""]
    lines.append(paragraph("sizes", describe_sizes(findings)))
    lines.append(paragraph("balance", describe_balance(findings)))
    copies = {pair: near for pair, (_, near) in findings.copy_counts.items() if near}
    copied = "; ".join(f"{first} images with one in {second}: {near:,}" for (first, second), near in copies.items())
    lines.append(paragraph("copies", copied or "none"))
    for name, error in findings.broken[:MOST_BROKEN]:
        lines.append(paragraph("broken", f"{printable(name)}: {error}"))
    if len(findings.broken) > MOST_BROKEN:
        lines.append(paragraph("", f"and {len(findings.broken) - MOST_BROKEN:,} more broken files"))
    lines += [paragraph("note", remark) for remark in list_remarks(findings, proposal.image_size)]
    lines += ["", "Start with", "", proposal.command, "", "because", ""]
    lines += [paragraph(None, f"{setting.text}: {setting.reason}") for setting in proposal.settings]
    lines += ["", f"This takes about {format_duration(proposal.seconds)} on this machine."]
    return "\n".join(lines)


def paragraph(heading: str | None, text: str) -> str:
    """A line that is wrapped, after its heading; as an item of a list without one."""
    start = "- " if heading is None else f"{heading:<8}"
    return fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)

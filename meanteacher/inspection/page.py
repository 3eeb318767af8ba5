"""An inspection as one page of HTML, which needs no other file and no network."""

from pathlib import Path

from meanteacher.config.formats import format_duration
from meanteacher.config.templates import render
from meanteacher.inspection.findings import Findings
from meanteacher.inspection.proposal import Proposal
from meanteacher.inspection.remarks import list_remarks, printable
from meanteacher.inspection.text import describe_balance, summarize
from meanteacher.inspection.thumbnails import make_sheets


def render_page(findings: Findings, proposal: Proposal) -> str:
    """The page. Reads the images that it shows once more."""
    source, counts = findings.source, findings.counts
    contacts, copies = make_sheets(findings, proposal.overrides)
    return render(
        Path(__file__).parent / "page.html.j2",
        title=f"{printable(Path(source.name).name)}: {summarize(findings)}",
        folder=printable(str(source.root)),
        remarks=list_remarks(findings, proposal.image_size),
        proposal=proposal,
        duration=format_duration(proposal.seconds),
        contacts=contacts,
        copies=copies,
        groups=len(findings.copies.near),
        classes=[(name, counts["train"][row], counts["test"][row]) for row, name in enumerate(source.classes)],
        most_labels=counts["train"].max(),
        unlabeled=int(counts["unlabeled"][0]),
        balance=describe_balance(findings),
        tables=[
            ("shorter side in pixels", findings.side_histogram),
            ("width × height", findings.common_sizes),
            ("format", findings.count_values("format")),
            ("mode", findings.count_values("mode")),
        ],
        images=len(findings.sizes),
        turned=findings.turned,
        copy_counts=findings.copy_counts,
        broken=[(printable(name), error) for name, error in findings.broken],
        printable=printable,
    )

"""The command `meanteacher audit RUN`: wrong labels, copies, and images of no class among the images of a run."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.labeling.tables import make_parser, refuse_to_overwrite, table_text

if TYPE_CHECKING:
    from meanteacher.labeling.findings import Audit
    from meanteacher.labeling.run_images import RunImages

DESCRIPTION = """Look for labels that are probably wrong, copies, and images that belong to no class among the images
of a finished run, and write audit.csv and audit.html. Nothing is changed: look at each image, then correct its label
or delete it where the labels are kept."""

FILES = ["audit.csv", "audit.html"]


def audit(run: str | Path, *, out: Path | None = None, data: Path | None = None) -> dict[str, Path]:
    """Write what the audit of a run finds; returns the paths of the files by name.

    out: the folder of the files, by default `audit` in the run folder. data: where the images are now, if not where the
    settings of the run say.
    Raises UserError as `open_run` and `audit_run` do and if cleanlab is not installed, and OSError where `out` cannot
    be written.
    """
    if find_spec("cleanlab") is None:  # checked before the images are read
        raise UserError("meanteacher audit needs cleanlab; pip install -e '.[audit]' brings it")
    from meanteacher.labeling.audit_page import render_audit_page
    from meanteacher.labeling.findings import audit_run
    from meanteacher.labeling.run_images import open_run

    images = open_run(Path(run).expanduser(), data)
    folder = out or images.folder / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    found = audit_run(images)
    print("\n".join(summary(images, found)))
    contents = {"audit.csv": table_text(COLUMNS, rows(images, found)), "audit.html": render_audit_page(images, found)}
    return {name: write_atomically(folder / name, content) for name, content in contents.items()}


COLUMNS = (
    "finding",
    "path",
    "part",
    "label",
    "suggested_label",
    "confident",
    "other_path",
    "other_part",
    "other_label",
    "score",
)


def rows(run: "RunImages", found: "Audit") -> list[dict[str, str]]:
    """A row of the table for each finding."""
    return [
        dict.fromkeys(COLUMNS, "")
        | {
            "finding": each.kind,
            "path": run.path_of(each.image),
            "part": each.image.part,
            "label": each.image.label,
            "suggested_label": each.suggested,
            "confident": "yes" if each.confident else "no",
            "score": f"{each.score:.4g}",
        }
        | (
            {"other_path": run.path_of(each.other), "other_part": each.other.part, "other_label": each.other.label}
            if each.other
            else {}
        )
        for each in found.findings
    ]


def summary(run: "RunImages", found: "Audit") -> list[str]:
    """What was found, in a line for each kind."""
    known, labels = len(run.known), found.of_kind("label")
    confident = sum(each.confident for each in labels)
    copies = found.of_kind("copy")
    other_labels = sum(each.image.label != each.other.label for each in copies)
    of_test = sum(each.other.part == "test" for each in copies)
    return [
        f"labels that are probably wrong: {confident} of {known}; {len(labels) - confident} more may be",
        f"copies of labeled images: {len(copies)}, {other_labels} with another label, {of_test} in the test part",
        f"images that seem to belong to no class: {len(found.of_kind('foreign'))} of {found.looked_at}",
        *(f"note: {note}" for note in found.notes),
    ]


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError and OSError as `audit` does."""
    options = make_parser("audit", DESCRIPTION).parse_args(arguments)
    refuse_to_overwrite(options.out or options.run / "audit", FILES, options.force)
    files = audit(options.run, out=options.out, data=options.data)
    print("\n".join(map(str, files.values())))
    return 0

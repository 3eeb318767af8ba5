"""The command `meanteacher compare RUNS… [--out DIR] [--title TEXT]`: compares methods from their results."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.console import log_to_console
from meanteacher.config.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """A comparison that was written.

    verdicts: the sentences it begins with, and those below its picture.
    summary: a row per protocol, variant, network and label count; errors as fractions.
    errors: the protocols and the error tables as Markdown, as shown in a terminal.
    problems: a dictionary per run that is in no number.
    finished: number of runs that are in the numbers.
    files: paths of the written files, by name.
    """

    verdicts: list[str]
    summary: "pd.DataFrame"
    errors: str
    problems: list[dict]
    finished: int
    files: dict[str, Path]

    @property
    def pictures(self) -> list[Path]:
        return [self.files["comparison.png"], self.files["comparison.svg"]]

    @property
    def text(self) -> str:
        """The verdicts, protocols and error tables, for a terminal."""
        return "\n\n".join(filter(None, ["\n".join(self.verdicts), self.errors]))


def compare(paths: list[str | Path], out: Path, title: str | None = None) -> Comparison:
    """Compare the runs under `paths` and write comparison.md, .html, .csv, .json, .png and .svg into the folder `out`.

    title: the heading; by default the name of the sweep.
    Raises UserError where there is nothing to compare, and OSError where `out` cannot be written.
    """
    from meanteacher.comparison.assembly import assemble

    assembly = assemble(paths, out, title)
    for problem in assembly.problems:
        if problem["status"] == "unreadable":
            log.warning("%s is in no number: %s", problem["folder"], problem["reason"])
    out.mkdir(parents=True, exist_ok=True)
    table = assembly.numbers.table
    return Comparison(
        verdicts=[*assembly.document.verdicts, *assembly.document.captions],
        summary=assembly.numbers.summary,
        errors=errors_text(assembly),
        problems=assembly.problems,
        finished=int(table.loc[table["counted"], "run"].nunique()),
        files={name: write_atomically(out / name, content) for name, content in assembly.files.items()},
    )


def errors_text(assembly) -> str:
    """The protocols, the error tables with their captions, and the note on tuning budgets, as Markdown.

    Empty where nothing was measured.
    """
    from meanteacher.comparison.page import markdown_table

    if not assembly.errors:
        return ""
    shown = [f"{table.heading}\n\n{markdown_table(table)}" for table in assembly.errors]
    note = assembly.errors[0].note.replace("bold:", "**bold**:")
    return "\n\n".join(["\n".join(assembly.document.protocols), *shown, note, assembly.document.notes[0]])


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError and OSError as `compare` does."""
    parser = argparse.ArgumentParser(prog="meanteacher compare", description="Compare methods from their results.")
    parser.add_argument(
        "runs",
        nargs="*",
        default=["outputs"],
        metavar="RUNS",
        help="folders of runs, result files, quoted patterns, or a sweep's folder (default: outputs)",
    )
    parser.add_argument("--out", type=Path, help="output folder (default: the sweep's folder, else ./comparison)")
    parser.add_argument("--title", help="heading (default: the sweep's name)")
    options = parser.parse_args(arguments)
    first = Path(options.runs[0])
    out = options.out or (first if (first / "sweep.json").is_file() else Path("comparison"))
    log_to_console(logging.WARNING)
    comparison = compare(options.runs, out, options.title)
    print("\n\n".join([comparison.text, "\n".join(map(str, comparison.files.values()))]))
    return 0

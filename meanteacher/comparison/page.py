"""A comparison as Markdown and as one page of HTML, both from the same sections."""

import re
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from meanteacher.comparison.tables import Cell, Table


@dataclass(frozen=True)
class Document:
    """What a comparison says, in order. protocols: a line each; tables: as shown; runs: for the page alone; notes: a line
    each, with the commands at their end."""

    title: str
    verdicts: list[str]
    protocols: list[str]
    tables: list[Table]
    runs: Table
    notes: list[str]
    commands: list[str]


def markdown(document: Document) -> str:
    """The document as Markdown, with the picture beside it."""
    parts = [f"# {escaped(document.title)}", bullets(document.verdicts), "![Error of each method](comparison.png)"]
    parts += [bullets(document.protocols)] if document.protocols else []
    for table in document.tables:
        parts += [f"## {escaped(table.heading)}", markdown_table(table)] + ([escaped(table.note)] if table.note else [])
    parts += ["## Notes", bullets(document.notes), "```\n" + "\n".join(document.commands) + "\n```"]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    rows = [[markdown_cell(cell) for cell in row] for row in table.rows]
    aligned = ["right" if numeric(table, place) else "left" for place in range(len(table.columns))]
    headers = [escaped(name) for name in table.columns]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned if rows else None)


def markdown_cell(cell: Cell) -> str:
    return f"**{escaped(cell.text)}**" if cell.bold else escaped(cell.text)


def numeric(table: Table, place: int) -> bool:
    """Whether a column holds numbers, as its cells are sorted."""
    values = [row[place].value for row in table.rows if row[place].value is not None]
    return bool(values) and not any(isinstance(value, str) for value in values)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split()))
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text)


def html(document: Document, picture: str) -> str:
    """The document as one page that needs nothing else. picture: SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(document=document, picture=picture[picture.index("<svg") :], numeric=numeric)

"""Renders a comparison as Markdown and as one page of HTML, both from the same document."""

import re
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from meanteacher.comparison.tables import Cell, Table
from meanteacher.config.templates import render


@dataclass(frozen=True)
class Document:
    """The content of a comparison, in order. captions: below the picture. runs: a table that only the page has."""

    title: str
    verdicts: list[str]
    captions: list[str]
    protocols: list[str]
    tables: list[Table]
    runs: Table
    notes: list[str]
    commands: list[str]


def markdown(document: Document) -> str:
    """The document as Markdown. It links to the picture in comparison.png."""
    parts = [f"# {escape(document.title)}", bullets(document.verdicts), "![Error of each method](comparison.png)"]
    parts += [bullets(document.captions)] if document.captions else []
    parts += [bullets(document.protocols)] if document.protocols else []
    for table in document.tables:
        parts += [f"## {escape(table.heading)}", markdown_table(table)] + ([escape(table.note)] if table.note else [])
    parts += ["## Notes", bullets(document.notes), "```\n" + "\n".join(document.commands) + "\n```"]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """The table as a Markdown table, without heading and note."""
    rows = [[markdown_cell(cell) for cell in row] for row in table.rows]
    aligned = ["right" if is_numeric(table, column) else "left" for column in range(len(table.columns))]
    headers = [escape(name) for name in table.columns]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned if rows else None)


def markdown_cell(cell: Cell) -> str:
    return f"**{escape(cell.text)}**" if cell.bold else escape(cell.text)


def is_numeric(table: Table, column: int) -> bool:
    """Whether the cells of a column are sorted as numbers."""
    values = [row[column].value for row in table.rows if row[column].value is not None]
    return bool(values) and not any(isinstance(value, str) for value in values)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def escape(text: str) -> str:
    """Text on one line, with the characters that Markdown would interpret escaped."""
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split()))
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text)


def html(document: Document, picture: str) -> str:
    """The document as one self-contained page. picture: SVG."""
    template = Path(__file__).with_name("page.html.j2")
    return render(template, document=document, picture=picture[picture.index("<svg") :], is_numeric=is_numeric)

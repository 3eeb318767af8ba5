"""MkDocs hook: renders the tables of recipe_facts.md from recipe_facts/<recipe>.yaml."""

import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

FACTS = Path(__file__).parent / "recipe_facts"
MARK = "<!-- tables -->"
PLACE = re.compile(r"(?P<repository>[^@\s]+)@(?P<version>\S+) (?P<path>\S+?):(?P<place>\S+)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the mark by a table per recipe."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(section(path) for path in sorted(FACTS.glob("*.yaml"))))


def section(path: Path) -> str:
    """The heading and the table of a recipe."""
    facts = yaml.safe_load(path.read_text())["facts"]
    rows = [row for fact in facts for row in fact_rows(fact)]
    ruler = ["| fact | their code | ours | differs | source |", "|---|---|---|---|---|"]
    return "\n".join([f"## `{path.stem}`", "", *ruler, *(f"| {' | '.join(row)} |" for row in rows)])


def fact_rows(fact: dict[str, Any]) -> list[list[str]]:
    """One row where all values agree, else a row for each value; what differs and the source stand in the first."""
    theirs, ours = named_values(fact["theirs"]), named_values(fact["ours"])
    if theirs == ours:
        values = "<br>".join(filter(None, (f"{key}: {value}" if key else value for key, value in theirs.items())))
        rows = [[fact["name"], values or "none", "same"]]
    else:
        pairs = {key: (theirs.get(key, "–"), ours.get(key, "–")) for key in (theirs | ours)}
        rows = [
            [", ".join(filter(None, [fact["name"], key])), their, "same" if their == our else our]
            for key, (their, our) in pairs.items()
        ]
    first = [fact.get("differs", ""), links(fact["source"])]
    return [row + (first if number == 0 else ["", ""]) for number, row in enumerate(rows)]


def named_values(value: Any) -> dict[str, str]:
    """Texts by name; values at steps are one text, and so is a value without names, whose name is empty."""
    if isinstance(value, dict) and all(isinstance(key, int) for key in value):
        return {"": "<br>".join(f"step {step:,}: {text(number)}" for step, number in value.items())} if value else {}
    return {key: text(inner) for key, inner in value.items()} if isinstance(value, dict) else {"": text(value)}


def text(value: Any) -> str:
    if isinstance(value, list):
        return "<br>".join(map(text, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def links(places: list[str]) -> str:
    """Links to the lines of the files; the lines of released packages are those of the package."""
    return "<br>".join(link(**PLACE.fullmatch(place).groupdict()) for place in places)


def link(repository: str, version: str, path: str, place: str) -> str:
    name = f"{path.rpartition('/')[2]}:{place}"
    if "." in version:
        return f"{name} ({repository} {version})"
    lines = re.sub(r"(\d+)-(\d+)", r"#L\1-L\2", place) if place[0].isdigit() else ""
    return f"[{name}](https://github.com/{repository}/blob/{version}/{path}{lines})"

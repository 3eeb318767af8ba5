"""Lists the images that a CSV table names and checks its content, without opening an image."""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from meanteacher.config.errors import UserError
from meanteacher.data.cache import describe
from meanteacher.data.listing import PARTS, ImageFile, Listing, build_listing, shorten, sort_by_name, stat_image


class Row(NamedTuple):
    """A row of the table: its line in the file, the name of its image, its class ("" without one) and its part."""

    line: int
    name: str
    label: str
    part: str


def list_table(file: str | None) -> Listing:
    """List the images of a table. Within each part, they are sorted by name, so that labels do not change their order.

    Raises UserError if the file is missing or is no such table, for contradictory rows, for a class that only the test
    part has, and for fewer than two classes.
    """
    source = _resolve_file(file)
    rows, notes = read_rows(source)
    parts: dict[str, dict[str, list[ImageFile]]] = {part: {} for part in PARTS}
    broken: dict[str, str] = {}
    for row in rows:
        files = parts[row.part].setdefault(row.label, [])
        try:
            files.append(stat_image(row.name, source.parent / row.name))
        except (OSError, ValueError) as error:
            broken[row.name] = describe(error)
    _check_classes(source, parts, broken)
    listing = build_listing(
        root=source.parent,
        where=source,
        train=parts["train"],
        test=parts["test"],
        unlabeled=parts["unlabeled"].get("", []),
        test_name="test part",
        broken=broken,
    )
    return sort_by_name(replace(listing, notes=notes + listing.notes))


def read_rows(source: Path) -> tuple[list[Row], list[str]]:
    """The rows of a table, one per image, and notes. Raises UserError for rows that make no sense."""
    lines, notes = _parse(source)
    rows: dict[str, Row] = {}
    wrong_parts, without_label, conflicts, repeated, hidden = [], [], [], 0, 0
    for line, path, label, part in lines:
        part = part or ("train" if label else "unlabeled")
        if part not in PARTS:
            wrong_parts.append(f"{part} in line {line}")
        elif part == "test" and not label:
            without_label.append(f"line {line}")
        hidden += part == "unlabeled" and bool(label)
        part = "train" if part == "train" and label else "test" if part == "test" else "unlabeled"
        row = Row(line, image_name(path, source.parent), "" if part == "unlabeled" else label, part)
        first = rows.setdefault(row.name, row)
        repeated += first is not row
        if (first.label, first.part) != (row.label, row.part):
            kinds = [f"{r.label or 'no label'} ({r.part}) in line {r.line}" for r in (first, row)]
            conflicts.append(f"{row.name} is {' and '.join(kinds)}")
    for mistakes, problem, advice in (
        (wrong_parts, "unknown parts", f"use {', '.join(PARTS)}"),
        (without_label, "test images without a label", "label them, or use another part"),
        (conflicts, "images with two rows that differ", "keep one row"),
    ):
        if mistakes:
            raise UserError(f"{source}: {problem}: {shorten(mistakes)}; {advice}")
    if repeated:
        notes.append(f"rows skipped because their image has one already: {repeated}")
    if hidden:
        notes.append(f"labels not used because the part is unlabeled: {hidden}")
    return list(rows.values()), notes


def image_name(path: str, folder: Path) -> str:
    """The name of an image: its path relative to the table's folder; absolute if it is written so and lies outside."""
    absolute = os.path.normpath(os.path.join(folder, os.path.expanduser(path)))
    relative = Path(os.path.relpath(absolute, folder)).as_posix()
    return absolute if os.path.isabs(os.path.expanduser(path)) and relative.startswith("../") else relative


def likely_delimiter(header: str) -> str:
    """The most frequent of comma, semicolon (as some spreadsheets write) and tab in the first line of a table."""
    return max(",;\t", key=header.count)


def _parse(source: Path) -> tuple[list[tuple[int, str, str, str]], list[str]]:
    """Line, path, label and part of each row as written, and notes."""
    try:
        text = source.read_text(encoding="utf-8-sig")
        delimiter = likely_delimiter(text.partition("\n")[0])
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        table = [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None
    except (OSError, csv.Error) as error:
        raise UserError(f"{source} cannot be read as CSV ({describe(error)}): check its quotes and commas") from None
    header = [field.strip().lower() for field in table[0][1]] if table else []
    if not {"path", "label"} <= set(header) or len(set(header)) < len(header):
        raise UserError(
            f"{source}: its first line must name the columns path,label or path,label,part once each, "
            f"not {shorten(header) or 'nothing'}"
        )
    if len(table) == 1:
        raise UserError(f"{source} names no image: add a line with path,label for each")
    others = [name for name in header if name not in ("path", "label", "part")]
    rows = []
    for line, fields in table[1:]:
        row = dict(zip(header, fields, strict=False))
        if len(fields) != len(header) or not row["path"].strip() or "\0" in row["path"]:
            expected = f"{len(header)} fields, a path first of all, but it has {len(fields)}"
            raise UserError(f"{source}, line {line}: expected {expected}; quote values with commas")
        rows.append((line, row["path"], row["label"].strip(), row.get("part", "").strip().lower()))
    return rows, [f"columns not used: {shorten(others)}"] if others else []


def _resolve_file(file: str | None) -> Path:
    """The table as an absolute path. Raises UserError if it is not set, missing or no regular file."""
    if not file:
        raise UserError("dataset.file is not set: use dataset.file=FILE with a CSV table of the columns path,label")
    path = Path(file).expanduser().absolute()
    if not os.path.isfile(path):
        problem = "is not a regular file" if os.path.lexists(path) else "does not exist"
        raise UserError(f"dataset.file={path} {problem}: use a CSV table of the columns path,label")
    return path


def _check_classes(source: Path, parts: dict[str, dict[str, list[ImageFile]]], broken: dict[str, str]) -> None:
    """Raise UserError for fewer than two classes, and if no image of a class of the training part can be opened."""
    classes = sorted(parts["train"])
    if len(classes) < 2:
        found = f"one class only ({shorten(classes)})" if classes else "no label in its training part"
        raise UserError(f"{source} has {found}, but at least two classes are needed: label more images")
    if lost := [name for name in classes if not parts["train"][name]]:
        names = shorten([f"{name} ({reason})" for name, reason in broken.items()])
        raise UserError(
            f"{source}: no training image of {shorten(lost)} can be opened: {names}; "
            f"paths are absolute or relative to {source.parent}"
        )

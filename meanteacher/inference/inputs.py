"""The image files that a command line names: files, folders and CSV files."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from meanteacher.config.errors import UserError
from meanteacher.data.folder_listing import SUFFIXES
from meanteacher.data.table_listing import likely_delimiter


class InputImage(NamedTuple):
    """name: the path as it was given, for a person; path: where the file is."""

    name: str
    path: str


def list_inputs(arguments: list[str]) -> list[InputImage]:
    """The images of all arguments, in their order: a file, all images below a folder, or the `path` column of a CSV.

    Paths in a CSV file are relative to its folder. Folders are searched at any depth; hidden files and files without
    the suffix of an image are skipped. A file that a CSV names need not exist. Raises UserError for an argument that
    does not exist, a folder without images, and a CSV file without paths.
    """
    images: list[InputImage] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            images += list_folder(path)
        elif not path.exists():
            raise UserError(f"{argument}: there is no such file or folder")
        elif path.suffix.lower() == ".csv":
            images += read_table(path)
        else:
            images.append(InputImage(argument, str(path)))
    return images


def list_folder(folder: Path) -> list[InputImage]:
    """The images below a folder, sorted by path. Raises UserError if there are none."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable or remove it")

    paths = [
        os.path.join(current, name)
        for current, subfolders, names in os.walk(folder, onerror=refuse)
        for name in visible(names, subfolders)
        if os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    if not paths:
        raise UserError(f"{folder}: has no images; their names must end in one of {' '.join(sorted(SUFFIXES))}")
    return [InputImage(path, path) for path in sorted(paths)]


def visible(names: list[str], subfolders: list[str]) -> Iterator[str]:
    """The names that are not hidden; hidden subfolders are removed from the list, so that `os.walk` skips them."""
    subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return (name for name in names if not name.startswith("."))


def read_table(path: Path) -> list[InputImage]:
    """The images in the column `path` of a CSV file. Raises UserError if there are none or it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = likely_delimiter(file.readline())
            file.seek(0)
            rows = csv.DictReader(file, delimiter=delimiter)
            if "path" not in (rows.fieldnames or []):
                columns = ", ".join(rows.fieldnames or []) or "none"
                raise UserError(
                    f"{path}: has no column `path` (its columns: {columns}); rename the column of the images to `path`"
                )
            names = [row["path"] for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({reason}); mend it") from None
    if empty := next((number for number, name in enumerate(names, 1) if not name), None):
        raise UserError(f"{path}: row {empty} has no path; fill it in or remove the row")
    if not names:
        raise UserError(f"{path}: has no rows below its header; add paths of images")
    return [InputImage(name, str(path.parent / Path(name).expanduser())) for name in names]

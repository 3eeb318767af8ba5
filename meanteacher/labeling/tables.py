"""Options of the commands of this folder, and the files that they write."""

import argparse
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from meanteacher.config.errors import UserError


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    """The parser of `meanteacher COMMAND RUN`, which writes to RUN/COMMAND unless `--out` names another folder."""
    parser = argparse.ArgumentParser(prog=f"meanteacher {command}", description=description)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"folder of the files (RUN/{command})")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the images are, if the run was moved")
    parser.add_argument("--force", action="store_true", help="replace files of an earlier call")
    return parser


def table_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    """The rows as CSV in UTF-8. Bytes of file names that are not UTF-8 stay as they are."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def refuse_to_overwrite(folder: Path, names: list[str], force: bool) -> None:
    """Raise UserError if one of the files exists and `force` is False."""
    if (present := [name for name in names if (folder / name).exists()]) and not force:
        raise UserError(f"{folder / present[0]} exists; choose another --out FOLDER, or replace it with --force")

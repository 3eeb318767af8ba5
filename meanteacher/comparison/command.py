"""Compare methods from their results: `python -m meanteacher.comparison.command RUNS… [--out DIR] [--title TEXT]`."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """What a comparison found. summary: a row per protocol, variant, network and label count, errors as fractions;
    errors: the error tables as Markdown; problems: a dictionary per run that is in no number; finished: runs that are;
    files: by name, where everything was written."""

    verdicts: list[str]
    summary: "pd.DataFrame"
    errors: str
    problems: list[dict]
    finished: int
    files: dict[str, Path]

    @property
    def pictures(self) -> list[Path]:
        return [self.files["comparison.png"], self.files["comparison.svg"]]


def compare(paths: list[str | Path], out: Path, title: str | None = None) -> Comparison:
    """Read the runs under `paths` and write comparison.md, .html, .csv, .json, .png and .svg into the folder `out`.

    title: by default the sweep's name. Raises UserError where there is nothing to compare, OSError where `out` can't be
    written.
    """
    from meanteacher.comparison import assembly

    content, found = assembly.assemble(paths, out, title)
    out.mkdir(parents=True, exist_ok=True)
    files = {name: write_atomically(out / name, data) for name, data in content.items()}
    return Comparison(**found, files=files)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m meanteacher.comparison.command", description="Compare methods from their results."
    )
    parser.add_argument(
        "runs",
        nargs="*",
        default=["outputs"],
        metavar="RUNS",
        help="folders of runs, result files, quoted patterns, or a sweep's folder (default: outputs)",
    )
    parser.add_argument("--out", type=Path, help="where to write (default: the sweep's folder, else ./comparison)")
    parser.add_argument("--title", help="heading (default: the sweep's name)")
    given = parser.parse_args(arguments)
    first = Path(given.runs[0])
    out = given.out or (first if (first / "sweep.json").is_file() else Path("comparison"))
    try:
        found = compare(given.runs, out, given.title)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    parts = ["\n".join(found.verdicts), found.errors, "\n".join(map(str, found.files.values()))]
    print("\n\n".join(filter(None, parts)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

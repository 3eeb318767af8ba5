"""The published recipes in conf/experiment, in a table: `python -m meanteacher.comparison.recipes`."""

import re
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from tabulate import tabulate

from meanteacher.config import composing
from meanteacher.config.errors import UserError

COLUMNS = ("recipe", "method", "network", "data", "published", "source", "command")


def recipes() -> list[dict[str, str]]:
    """A row per experiment file that has a `# published:` line. Raises UserError where there is no conf beside the package."""
    folder = composing.CONF / "experiment"
    if not folder.is_dir():
        raise UserError("there is no conf beside the package; run this in a checkout of the repository")
    with initialize_config_dir(str(composing.CONF), version_base="1.3"):
        rows = [row(path) for path in sorted(folder.glob("*.yaml"))]
    return [found for found in rows if found]


def row(path: Path) -> dict[str, str] | None:
    said = dict(re.findall(r"^# (published|source): (.+)$", path.read_text(), re.MULTILINE))
    if "published" not in said:
        return None
    root = compose("config", [f"experiment={path.stem}"], return_hydra_config=True)
    names = composing.names(root.hydra)
    return {
        "recipe": path.stem,
        "method": names["method"],
        "network": names["model"],
        "data": names["dataset"],
        **said,
        "command": f"python run.py experiment={path.stem} label={root.label}",
    }


def main() -> int:
    try:
        rows = recipes()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    widths = [None, None, None, None, 44, 34, None]
    print(tabulate([[found[name] for name in COLUMNS] for found in rows], COLUMNS, maxcolwidths=widths))
    print(
        "\nThe published numbers are their authors', under their protocols; `label=N` chooses another number of labels."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

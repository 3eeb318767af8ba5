"""Label chosen photos of make_digit_photos.py in place of a person: label_digit_photos.py PHOTOS CHOSEN LABELS.

CHOSEN is the label-next.csv that `meanteacher label-next` writes. LABELS is written: the same table to train with that
the page label-next.html saves. A person would look at the photos; this script reads PHOTOS/answers.csv instead.
"""

import csv
import os
import sys
from pathlib import Path


def read_column(path: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a CSV file as a dictionary."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row[key]: row[value] for row in csv.DictReader(file)}


def main(photos: Path, chosen: Path, labels: Path) -> None:
    answers = read_column(photos / "answers.csv", "path", "label")
    names = {os.path.relpath(path, photos.absolute()) for path in read_column(chosen, "path", "path")}
    rows = []
    for path in sorted(photos.rglob("*.png")):
        part, *folders, _ = path.relative_to(photos).parts
        name = path.relative_to(photos).as_posix()
        label = folders[0] if folders else answers.get(name, "") if name in names else ""
        rows.append((os.path.relpath(path, labels.parent), label, "test" if part == "test" else ""))
    with labels.open("x", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "part"), *rows])
    print(
        f"{labels}: {len(names)} more labels, {sum(bool(label) for _, label, _ in rows)} in all, test photos included"
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} PHOTOS CHOSEN LABELS")
    main(*map(Path, sys.argv[1:]))

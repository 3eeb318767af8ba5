"""The command `meanteacher label-next RUN [N]`: which unlabeled images of a run to label next, and a page to do it."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.files import write_atomically
from meanteacher.labeling.tables import make_parser, refuse_to_overwrite, table_text

if TYPE_CHECKING:
    from meanteacher.labeling.choice import Choice
    from meanteacher.labeling.run_images import RunImages

DEFAULT = "typical"
"""The strategy that is used where none is named: the best with few labels in results/label_next.md."""

DESCRIPTION = """Choose unlabeled images of a finished run that are worth a label, and write label-next.csv and
label-next.html. The page is opened in a browser, needs no server, and saves a CSV to train with."""


def label_next(
    run: str | Path, count: int = 100, *, by: str = DEFAULT, out: Path | None = None, data: Path | None = None
) -> dict[str, Path]:
    """Write the images to label next and the page to label them; returns the paths of the files by name.

    by: the strategy, of `selection.STRATEGIES`. out: the folder of both files, by default `label-next` in the run
    folder. data: where the images are now, if not where the settings of the run say.
    Raises UserError as `open_run` and `choose_next` do, and OSError where `out` cannot be written.
    """
    from meanteacher.labeling.choice import choose_next
    from meanteacher.labeling.page import render_label_page
    from meanteacher.labeling.run_images import open_run

    images = open_run(Path(run).expanduser(), data)
    choice = choose_next(images, count, by)
    folder = out or images.folder / "label-next"
    folder.mkdir(parents=True, exist_ok=True)
    rows = choice_rows(images, choice)
    describe(images, choice, rows)
    contents = {"label-next.csv": table_text(list(rows[0]), rows), "label-next.html": render_label_page(images, choice)}
    return {name: write_atomically(folder / name, content) for name, content in contents.items()}


def choice_rows(images: "RunImages", choice: "Choice") -> list[dict[str, str | int]]:
    """A row for each chosen image: rank, path, the two most probable classes and the strategy's score."""
    values, classes = choice.probabilities.topk(2, dim=1)
    names = images.classes
    return [
        {
            "rank": rank,
            "path": images.training_paths[position],
            "guess": names[first],
            "probability": f"{p:.4f}",
            "second_guess": names[second],
            "second_probability": f"{q:.4f}",
            "score": f"{score:.6g}",
        }
        for rank, (position, (first, second), (p, q), score) in enumerate(
            zip(choice.positions.tolist(), classes.tolist(), values.tolist(), choice.scores.tolist(), strict=True), 1
        )
    ]


def describe(images: "RunImages", choice: "Choice", rows: list[dict]) -> None:
    """Print how many images were chosen, among how many, and what the network takes them for."""
    left_out = f", {choice.duplicates} duplicates left out" if choice.duplicates else ""
    print(f"{len(rows)} of {choice.candidates} unlabeled images by {choice.by}{left_out}")
    guesses = Counter(row["guess"] for row in rows)
    print("guesses: " + ", ".join(f"{name} {guesses[name]}" for name in images.classes if guesses[name]))


def positive(text: str) -> int:
    """A positive number. Raises ValueError otherwise."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError and OSError as `label_next` does."""
    from meanteacher.labeling.selection import STRATEGIES

    parser = make_parser("label-next", DESCRIPTION)
    parser.add_argument("count", nargs="?", type=positive, default=100, metavar="N", help="how many images (100)")
    parser.add_argument("--by", choices=STRATEGIES, default=DEFAULT, help=f"how they are chosen ({DEFAULT})")
    options = parser.parse_args(arguments)
    refuse_to_overwrite(options.out or options.run / "label-next", ["label-next.csv", "label-next.html"], options.force)
    files = label_next(options.run, options.count, by=options.by, out=options.out, data=options.data)
    print("\n".join(map(str, files.values())))
    print("Open the page in a browser, label the images and save labels.csv; the page says how to train with it.")
    return 0

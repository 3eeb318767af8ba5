"""The pages of labeling: one static file each, which needs no server and no network."""

import hashlib
from pathlib import Path

from meanteacher.config.templates import render
from meanteacher.labeling.choice import Choice
from meanteacher.labeling.retraining import image_table, reads_new_labels, retraining_command
from meanteacher.labeling.run_images import RunImages
from meanteacher.labeling.thumbnails import thumbnails

TEMPLATES = Path(__file__).parent

KEYS = "1234567890abcdefghijklmnopqrstuvwxyz"
"""Keys of the page that set the classes, in their order; classes beyond have none."""


def render_label_page(run: RunImages, choice: Choice) -> str:
    """The page on which the chosen images get their labels. It holds the table of all images that it completes."""
    table = image_table(run, choice.positions)
    rows = {path: row for row, path in enumerate(table["paths"]) if table["parts"][row] != "test"}
    chosen_rows = [rows[run.training_paths[position]] for position in choice.positions]
    values, guesses = choice.probabilities.topk(2, dim=1)
    page = {
        "classes": run.classes,
        "keys": class_keys(run.classes),
        "known": sum(
            label >= 0 and part != "test" for label, part in zip(table["labels"], table["parts"], strict=True)
        ),
        "storage": f"meanteacher label-next {page_digest([*run.classes, *(table['paths'][i] for i in chosen_rows)])}",
        "command": retraining_command(run, choice.positions),
        "table": table,
        "images": [
            {"row": row, "guesses": classes, "probabilities": [round(p, 4) for p in probabilities], "picture": picture}
            for row, classes, probabilities, picture in zip(
                chosen_rows,
                guesses.tolist(),
                values.tolist(),
                thumbnails(run, [run.training_place(position) for position in choice.positions]),
                strict=True,
            )
        ],
    }
    return render(
        TEMPLATES / "label_next.html.j2",
        title=f"Label {len(choice.positions)} images of {run.data.name}",
        by=choice.by,
        candidates=choice.candidates,
        run=str(run.folder),
        new=reads_new_labels(run, choice.positions),
        page=page,
    )


def class_keys(classes: list[str]) -> str:
    """The key of each class: its own name where all names are keys, as for digits, or else in the order of `KEYS`."""
    names = [name.lower() for name in classes]
    own = all(len(name) == 1 and name in KEYS for name in names) and len(set(names)) == len(names)
    return "".join(names) if own else KEYS[: len(classes)]


def page_digest(names: list[str]) -> str:
    """Identifies the images and classes of a page, so that a browser finds its earlier labels again."""
    return hashlib.blake2b("\0".join(names).encode(errors="surrogateescape"), digest_size=8).hexdigest()

"""Write an example folder of photos, made from scikit-learn's handwritten digits: python make_digit_photos.py OUT.

OUT gets train/<class>/* with 109 labels, unlabeled/* and test/<class>/*, for six of the digits. Like real photos, they
vary: their sides have 24 to 80 pixels, not all are square, some are gray, some are stored sideways with the orientation
in their EXIF data, and three are broken. One class has only 8 labels, one test photo is also among the unlabeled ones,
and one photo is in two classes. OUT/answers.csv has the classes of the unlabeled photos, for
label_digit_photos.py. Nothing is downloaded, and every call writes the same photos.
"""

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

NAMES = {1: "one", 3: "three", 5: "five", 7: "sept (à barre)", 8: "eight", 9: "nine"}
LABELS = {1: 20, 3: 20, 5: 20, 7: 8, 8: 20, 9: 20}
TEST = 30
"""Test photos of each class; the rest is unlabeled."""

INK, PAPER = ((20, 30, 90), (60, 20, 20), (10, 60, 30)), ((250, 248, 240), (225, 232, 240), (240, 225, 210))
ORIENTATION, CLOCKWISE = 0x0112, 6
"""EXIF's tag of the orientation, and its value for an image that is to be turned clockwise by 90 degrees."""


def draw_photo(digit: np.ndarray, rng: random.Random) -> Image.Image:
    """A digit, float [8, 8] from 0 to 16, in ink on paper, with a margin to the left and right or above and below."""
    strokes = Image.fromarray((digit / 16 * 255).astype(np.uint8))
    side = rng.randint(24, 64)
    strokes = strokes.resize((side, side), Image.Resampling.BICUBIC)
    photo = ImageOps.colorize(strokes, rng.choice(PAPER), rng.choice(INK))
    margin = rng.randint(0, 8)
    border = rng.choice([(margin, 0, margin, 0), (0, margin, 0, margin)])
    return ImageOps.expand(photo, border, fill=photo.getpixel((0, 0)))


def save_photo(photo: Image.Image, path: Path, rng: random.Random) -> None:
    """Write a photo as PNG: one in ten sideways, one in twenty gray."""
    exif = Image.Exif()
    if rng.random() < 0.1:
        exif[ORIENTATION] = CLOCKWISE
        photo = photo.transpose(Image.Transpose.ROTATE_90)
    elif rng.random() < 0.05:
        photo = photo.convert("L")
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, exif=exif)


def main(out: Path) -> None:
    out.mkdir(parents=True)  # never writes into a folder that is already there
    rng = random.Random(0)
    digits, targets = load_digits(return_X_y=True)
    number, answers = 0, ["path,label"]
    for target, name in NAMES.items():
        rows = np.flatnonzero(targets == target).tolist()
        rng.shuffle(rows)
        labeled, test = LABELS[target], LABELS[target] + TEST
        for position, row in enumerate(rows):
            folder = f"train/{name}" if position < labeled else f"test/{name}" if position < test else "unlabeled"
            number += 1
            save_photo(draw_photo(digits[row].reshape(8, 8), rng), out / folder / f"IMG_{number:04}.png", rng)
            answers += [f"unlabeled/IMG_{number:04}.png,{name}"] if folder == "unlabeled" else []
    train, unlabeled, test = (sorted((out / part).rglob("*.png")) for part in ("train", "unlabeled", "test"))
    threes = [path for path in train if path.parent.name == "three"]
    (out / "unlabeled/copy.png").write_bytes(test[0].read_bytes())
    answers.append(f"unlabeled/copy.png,{test[0].parent.name}")
    (out / "answers.csv").write_text("\n".join(answers) + "\n", encoding="utf-8")
    (out / "train/one/copy.png").write_bytes(threes[0].read_bytes())  # one photo in two classes
    for path in (threes[1], unlabeled[1], unlabeled[2]):
        path.write_bytes(path.read_bytes()[:100])
    print(
        f"{out}: {len(train) + 1} labeled, {len(unlabeled) + 1} unlabeled and {len(test)} test photos, 3 of them broken"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} OUT")
    main(Path(sys.argv[1]))

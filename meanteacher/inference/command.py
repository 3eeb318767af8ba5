"""The command `meanteacher predict RUN IMAGES…`: classes and calibrated probabilities as a table."""

import argparse
import contextlib
import csv
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from meanteacher.config.console import log_to_console
from meanteacher.config.errors import UserError
from meanteacher.inference.inputs import InputImage, list_inputs

if TYPE_CHECKING:
    from meanteacher.inference.predictions import Predictions

log = logging.getLogger(__name__)

MOST_COUNTED = 12
"""Classes that the summary counts by name, the most frequent ones."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options. Raises UserError for a number out of range."""
    parser = argparse.ArgumentParser(
        prog="meanteacher predict",
        description="Predict classes with a finished run. An image that cannot be read is a row with an error; the "
        "exit status is 1 only if no image can be read.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder, as printed at the end of a run")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="images, folders, or CSV files with a column path")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to FILE (default: print it)")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.add_argument("--network", help="student, teacher or average (default: the network to deploy)")
    unsure = parser.add_mutually_exclusive_group()
    unsure.add_argument(
        "--precision", type=float, help="call images unsure so that this fraction of the others is right, such as 0.95"
    )
    unsure.add_argument(
        "--coverage", type=float, help="list the classes that hold the true one with this probability, such as 0.9"
    )
    parser.add_argument("--batch", type=int, help="most images in a forward pass (default: the run's)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"], help="(%(default)s)")
    options = parser.parse_args(arguments)
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch {options.batch}: must be at least 1")
    return options


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError for bad input and OSError for a file it cannot write.

    Files are checked before PyTorch is imported, which takes seconds.
    """
    options = parse(arguments)
    log_to_console(logging.INFO)
    images = list_inputs(options.images)
    refuse_to_replace_inputs(options.csv, [*options.images, *(image.path for image in images)])
    with open_output(options.csv, options.force) as file:
        from meanteacher.inference.loading import load

        predictor = load(options.run, network=options.network, device=options.device, batch=options.batch)
        rule = predictor.rule(options.precision, options.coverage)
        if predictor.calibration is None:
            log.warning("the probabilities are not calibrated, because this run had no validation images")
        if rule.text:
            log.info("%s", rule.text)
        tally, started = Tally(), time.perf_counter()
        parts = predictor.predict_batches([image.path for image in images], rule)
        write_rows(file, images, tally.follow(show_progress(parts, len(images))))
    seconds = time.perf_counter() - started
    log.info(
        "%d images in %.1f s (%.0f images/s) by the %s", len(images), seconds, len(images) / seconds, predictor.network
    )
    log.info("%s", tally.text())
    if tally.broken:
        log.warning("%d of %d images cannot be read: see the column error", tally.broken, len(images))
    return 1 if tally.broken == len(images) else 0


def refuse_to_replace_inputs(output: Path | None, inputs: list[str]) -> None:
    """Raise UserError if the file to write is one of those to read, even with --force."""
    if output is not None and os.path.realpath(output) in map(os.path.realpath, inputs):
        raise UserError(f"--csv {output}: is an input; choose another file")


@contextlib.contextmanager
def open_output(path: Path | None, force: bool) -> Iterator[TextIO]:
    """The file to write the table to: standard output, or a temporary file that becomes `path` when all is written.

    Raises UserError if the file exists and may not be overwritten, or if its folder cannot be written to.
    """
    if path is None:
        yield sys.stdout
        return
    if path.is_dir() or (path.exists() and not force):
        raise UserError(f"{path}: exists; " + ("give a file" if path.is_dir() else "--force overwrites it"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
    try:
        with file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def show_progress(parts: "Iterator[Predictions]", total: int) -> "Iterator[Predictions]":
    """The parts, with a progress bar on a terminal."""
    with tqdm(total=total, desc="predicting", unit=" images", disable=not sys.stderr.isatty()) as bar:
        for part in parts:
            yield part
            bar.update(len(part))


def write_rows(file: TextIO, images: list[InputImage], parts: "Iterator[Predictions]") -> None:
    """Write a row per image, in order, as each part is predicted."""
    names = (image.name for image in images)
    writer = None
    for part in parts:
        rows = [{"path": name} | cells for name, cells in zip(islice(names, len(part)), part.rows(), strict=True)]
        if writer is None:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
        writer.writerows(rows)
    file.flush()


class Tally:
    """Counts of predictions: images by class, unsure ones and those that cannot be read."""

    def __init__(self):
        self.classes: Counter[str] = Counter()
        self.unsure: int | None = None
        self.broken = 0

    def follow(self, parts: "Iterator[Predictions]") -> "Iterator[Predictions]":
        """The parts, counted as they pass."""
        for part in parts:
            self.classes.update(name for name in part.names if name is not None)
            self.broken += len(part) - int(part.readable.sum())
            if part.unsure is not None:
                self.unsure = (self.unsure or 0) + int((part.unsure & part.readable).sum())
            yield part

    def text(self) -> str:
        """The counts for a person, in one line."""
        listed = ", ".join(f"{name} {count}" for name, count in self.classes.most_common(MOST_COUNTED))
        others = len(self.classes) - MOST_COUNTED
        text = f"predicted classes: {listed or 'none'}" + (f" and {others} more" if others > 0 else "")
        return text if self.unsure is None else f"{text}; unsure: {self.unsure}"

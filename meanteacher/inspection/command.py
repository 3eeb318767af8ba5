"""The command `meanteacher inspect DIR|CSV`: a look at images of your own before training."""

import argparse
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically

PAGE = "inspect.html"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options. Raises UserError for values that are out of range."""
    parser = argparse.ArgumentParser(
        "meanteacher inspect",
        description="Look at images before training: what they are, what to fix, and how to start.",
        exit_on_error=False,
    )
    parser.add_argument(
        "source",
        metavar="DIR|CSV",
        help="a folder with train/<class>/*, or <class>/*, and perhaps unlabeled/, test/; or a table path,label[,part]",
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help=f"where {PAGE} is written (here)")
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of the images in training, in pixels (chosen)"
    )
    parser.add_argument(
        "--minutes", type=float, default=5, metavar="M", help="how long training may take (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help=f"replace {PAGE} if it is there")
    options = parser.parse_args(arguments)
    if options.image_size is not None and not 8 <= options.image_size <= 4096:
        raise UserError(f"--image-size={options.image_size}: must be from 8 to 4096")
    if not 0 < options.minutes <= 100_000:
        raise UserError(f"--minutes={options.minutes:g}: must be more than 0 and at most 100000")
    return options


def check_page(page: Path, force: bool) -> None:
    """Raise UserError, before the images are read, if the page could not be written or would replace another one."""
    if page.exists() and not force:
        raise UserError(f"{page} exists: use --force to replace it, or --out FOLDER for another folder")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page.with_name(f".{PAGE}.probe"), "").unlink()
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror}): use --out FOLDER for another folder") from None


def main(arguments: list[str]) -> int:
    """Inspect, print and write the page; returns the exit status. Raises UserError and argparse's errors."""
    options = parse(arguments)
    from meanteacher.inspection.findings import examine
    from meanteacher.inspection.page import render_page
    from meanteacher.inspection.proposal import propose
    from meanteacher.inspection.sources import read_source
    from meanteacher.inspection.text import render_text

    source = read_source(options.source)
    page = options.out / PAGE
    check_page(page, options.force)
    findings = examine(source)

    from meanteacher.inspection.timing import measure_speed
    from meanteacher.inspection.weights import find_cached_weights
    from meanteacher.training.device import choose_device

    on_gpu = choose_device("auto").type != "cpu"
    proposal = propose(
        findings,
        on_gpu=on_gpu,
        weights=find_cached_weights(largest=on_gpu),
        image_size=options.image_size,
        minutes=options.minutes,
        measure_speed=measure_speed,
    )
    write_atomically(page, render_page(findings, proposal))
    print(f"{render_text(findings, proposal)}\n\n{page}")
    return 0

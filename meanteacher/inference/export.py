"""The command `meanteacher export RUN`: one file that turns images into probabilities elsewhere, and a model card."""

import argparse
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from meanteacher.config.console import log_to_console
from meanteacher.config.errors import UserError

if TYPE_CHECKING:
    from meanteacher.runs.result import Result

log = logging.getLogger(__name__)

FORMATS = ("onnx", "safetensors", "pt2")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="meanteacher export",
        description="Write a network of a finished run as one file, and a model card. onnx and pt2 hold everything "
        "from images of any size to probabilities; safetensors holds the weights. The file is compared with PyTorch "
        "before it is kept.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, as printed at the end of a run")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="(%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: RUN/export/FORMAT)")
    parser.add_argument("--network", help="student, teacher or average (default: the network to deploy)")
    parser.add_argument("--license", default="unknown", metavar="ID", help="of the weights, for the card (%(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite files of the same names")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status. Raises UserError for bad input and if the file differs from PyTorch."""
    options = parse(arguments)
    log_to_console(logging.INFO)
    out = options.out or options.run / "export" / options.format
    export(options.run, options.format, out, network=options.network, license=options.license, force=options.force)
    return 0


def export(run: Path, format: str, out: Path, *, network: str | None, license: str, force: bool) -> None:
    """Write the file, config.json and README.md into the folder `out`, all or nothing.

    Raises UserError if the folder cannot be written to or holds something (without `force`), if `run` is not a finished
    run, if a package is missing, and if the file gives other probabilities than PyTorch.
    """
    from meanteacher.inference.loading import read_finished

    result = read_finished(run)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not force)):
        raise UserError(f"{out}: exists; choose another --out" + (", or --force" if out.is_dir() else ""))
    new_parent = not out.parent.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    try:
        write(run, result, format, temporary, network, license)
        move_files(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if new_parent and not any(out.parent.iterdir()):
            out.parent.rmdir()
    for path in sorted(out.iterdir()):
        log.info("file    %s (%s kB)", path, f"{path.stat().st_size / 1000:,.0f}")


def write(run: Path, result: "Result", format: str, folder: Path, network: str | None, license: str) -> None:
    """Write the files into `folder` and compare the exported network with the run's. result: the run's result."""
    import json

    from meanteacher.inference import export_check, export_formats, model_card
    from meanteacher.inference.deployable import Deployable
    from meanteacher.inference.loading import load, read_settings

    predictor = load(run, network=network, device="cpu")
    predictor.precision = "fp32"
    settings = read_settings(result, run)
    channels = predictor.image_shape[0]
    deployable = Deployable(
        network=predictor.model,
        normalize=predictor.augment.normalize,
        image_size=predictor.image_size,
        resize=predictor.deployment.resize,
        temperature=predictor.temperature,
    ).eval()
    log.info("export  the %s of %s as %s", predictor.network, run, format)
    config = export_formats.describe(deployable, predictor.classes, channels, settings)
    run_file = export_formats.FORMATS[format](deployable, folder, channels, config)
    images = export_check.images_of_run(settings, run, channels)
    agreement = export_check.compare(run_file, deployable, predictor, images)
    for sentence in agreement.sentences():
        log.info("checked %s", sentence)
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    card = model_card.write(result, predictor, config, format, agreement, license)
    (folder / "README.md").write_text(card, encoding="utf-8")


def move_files(source: Path, target: Path) -> None:
    """Move the files of one folder into another one on the same disk, replacing those of the same names."""
    source.chmod(0o755)  # mkdtemp's folder is for its owner alone
    if not target.exists():
        os.replace(source, target)
        return
    for path in source.iterdir():
        os.replace(path, target / path.name)

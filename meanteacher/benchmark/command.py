"""Measure a method's training step on this machine, next to a plain loop. Overrides are those of `train`."""

import argparse
import json
import logging
import os
from pathlib import Path

from meanteacher.benchmark import measure, show
from meanteacher.benchmark.variants import list_variants
from meanteacher.config.composing import compose_plain
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.training.device import choose_device, choose_precision

PROGRAM = "meanteacher benchmark"

OVERRIDABLE = ("model.", "trainer.", "method.", "label=", "seed=")
"""What overrides may change; the plain loop implements only the defaults of everything else."""

WORKERS = (0, 1, 2, 4)
"""Numbers of workers that are tried for the plain loop's loaders, besides the number of CPU cores."""


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options and the overrides. Raises UserError for a bad value and for an override that is not allowed."""
    parser = argparse.ArgumentParser(PROGRAM, "%(prog)s [options] [overrides]", __doc__, exit_on_error=False)
    parser.add_argument("--method", default="mean_teacher", help="(%(default)s)")
    parser.add_argument("--model", default="wrn_28_2", help="(%(default)s)")
    parser.add_argument("--device", default="auto", help="as trainer.device (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each variant (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each variant in a round (%(default)s)")
    parser.add_argument(
        "--workers", default="auto", help="workers of the plain loop's loaders; auto: the fastest number"
    )
    parser.add_argument("--compile", action="store_true", help="measure compiled steps on a CPU too")
    parser.add_argument("--images", type=int, default=50_000, help="images to draw batches from (%(default)s)")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--picture", type=Path, help="draw the measurements to this .png or .svg file")
    options, overrides = parser.parse_known_args(arguments)
    if min(options.rounds, options.steps) < 1:
        raise UserError("--rounds and --steps must be at least 1")
    if options.workers != "auto" and not options.workers.isdigit():
        raise UserError(f"--workers={options.workers}: must be auto or a number of at least 0")
    for override in overrides:
        if not override.startswith(OVERRIDABLE):
            raise UserError(f"{override}: only {', '.join(OVERRIDABLE)} can be changed in a benchmark")
    return options, overrides


def compose_settings(options: argparse.Namespace, overrides: list[str]) -> Settings:
    """The settings of an endless run on noise, without evaluations and checkpoints."""
    groups = [f"model={options.model}", f"method={options.method}", f"trainer.device={options.device}"]
    config = compose_plain([*groups, *overrides])
    noise = {"_target_": "meanteacher.benchmark.random_data.random_images", "count": options.images}
    config["dataset"] = {"name": "random", "storage": "device", "labeled_in_unlabeled": True, **noise}
    config["trainer"] |= {"log_every": options.steps, "checkpoint_minutes": 1e9}
    config |= {"steps": 2**62, "eval_every": 2**62, "logger": {}}
    return Settings.parse(config)


def main(arguments: list[str]) -> int:
    """Measure and print; returns the exit status. Raises UserError and the errors of argparse and Hydra."""
    logging.getLogger("meanteacher").addHandler(logging.NullHandler())
    options, overrides = parse(arguments)
    settings = compose_settings(options, overrides)
    device = choose_device(settings.trainer.device)
    cores = os.cpu_count() or 1
    workers = (
        [int(options.workers)] if options.workers != "auto" else sorted({n for n in (*WORKERS, cores) if n <= cores})
    )
    measurements = {"command": " ".join([PROGRAM, *arguments])} | measure.measure_variants(
        settings,
        {"model": options.model, "method": options.method},
        list_variants(device, choose_precision(settings.trainer.precision, device), options.compile),
        workers=workers,
        rounds=options.rounds,
        steps=options.steps,
    )
    print(show.format_text(measurements))
    if options.json:
        options.json.write_text(json.dumps(measurements, indent=1) + "\n")
    if options.picture:
        show.draw_picture(measurements, options.picture)
    return 0

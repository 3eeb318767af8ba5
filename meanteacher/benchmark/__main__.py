"""Measures a method's step on this machine beside a plain loop that does the same. Overrides are as for run.py."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import errors

from meanteacher.benchmark import Variant, measure, show
from meanteacher.config.composing import plain
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.config.locations import CONF
from meanteacher.config.settings import Settings
from meanteacher.training.device import choose_device, choose_precision

PROGRAM = "python -m meanteacher.benchmark"
FREE = ("model.", "trainer.", "method.", "label=", "seed=")
"""What may be overridden; the plain loop has the rest's defaults."""


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(PROGRAM, "%(prog)s [options] [overrides]", __doc__, exit_on_error=False)
    parser.add_argument("--method", default="mean_teacher")
    parser.add_argument("--model", default="wrn_28_2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each variant in a round")
    parser.add_argument(
        "--workers", default="auto", help="of the plain loop's loaders; auto: the fastest of a few numbers"
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure compiled steps on a CPU too, where they do not pay"
    )
    parser.add_argument("--images", type=int, default=50_000, help="to draw batches from")
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    parser.add_argument("--picture", type=Path, help="a .png or .svg of it")
    args, overrides = parser.parse_known_args(arguments)
    if min(args.rounds, args.steps) < 1 or not (args.workers == "auto" or args.workers.isdigit()):
        raise UserError("--rounds and --steps take numbers from 1, --workers takes auto or a number from 0")
    if wrong := [override for override in overrides if not override.startswith(FREE)]:
        raise UserError(f"{wrong[0]}: the plain loop is for the defaults; only {', '.join(FREE)} can be changed")
    return args, overrides


def prepare(args: argparse.Namespace, overrides: list[str]) -> Settings:
    """Plain settings that train on noise without an end."""
    groups = [f"model={args.model}", f"method={args.method}", f"trainer.device={args.device}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        root = compose("config", [*groups, *overrides], return_hydra_config=True)
    settings = plain(root, root.hydra)
    noise = {"_target_": "meanteacher.benchmark.random_images", "count": args.images}
    settings["dataset"] = {"name": "random", "storage": "device", "labeled_in_unlabeled": True, **noise}
    settings["trainer"] |= {"log_every": args.steps, "checkpoint_minutes": 1e9}
    settings |= {"steps": 2**62, "eval_every": 2**62, "logger": {}}
    return Settings.parse(settings)


def variants(args: argparse.Namespace, settings: Settings) -> list[Variant]:
    """The plain loop, ours without and with the machine's fast arithmetic, and ours compiled; the last two where they differ."""
    device = choose_device(args.device)
    precision = choose_precision(settings.trainer.precision, device)
    eager = [Variant(f"ours {kind}", kind, "never") for kind in dict.fromkeys(["fp32", precision])]
    compiled = [Variant(f"ours {precision} compiled", precision, "always")]
    plain = Variant(f"{measure.REFERENCE} fp32", "fp32", None)
    return [plain, *eager, *(compiled if args.compile or device.type == "cuda" else [])]


def main(arguments: list[str]) -> int:
    logging.getLogger("meanteacher").addHandler(logging.NullHandler())
    try:
        args, overrides = parse(arguments)
        settings = prepare(args, overrides)
        cores = os.cpu_count() or 1
        some = {n for n in (0, 1, 2, 4, cores) if n <= cores} if args.workers == "auto" else {int(args.workers)}
        names = {"model": args.model, "method": args.method}
        found = measure.all_variants(settings, names, variants(args, settings), sorted(some), args.rounds, args.steps)
        found = {"command": " ".join([PROGRAM, *arguments])} | found
        print(show.text(found))
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
        if args.picture:
            show.picture(found, args.picture)
    except (UserError, argparse.ArgumentError, HydraException, errors.OmegaConfBaseException, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

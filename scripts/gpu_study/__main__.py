"""Check and measure what needs a GPU, in stages that each fit into ten minutes.

    python scripts/gpu_study STAGE --out DIR [--budget SECONDS] [-- OVERRIDES]

check      the tests marked `gpu`, a short run, and for each method: compiled and captured steps with a finite loss,
           and the same bits after an interruption
speed      the benchmark and profile of Mean Teacher and FixMatch with WRN-28-2 and WRN-28-8, and the speed of 1, 2 and
           4 processes at once on the GPU
accuracy   supervised and Mean Teacher with 4000, 1000 and 250 labels of CIFAR-10
methods    FixMatch, FreeMatch and SoftMatch with 250 labels

Each stage prints a plan first, then runs its pieces, each in a process of its own. It starts no piece that cannot end
within the budget, judged by the earlier pieces in DIR/durations.json, and stops what is running when the budget ends.
Each piece writes DIR/STAGE/PIECE.json when it ends, and PIECE.log. The same command later runs the pieces that have not
passed; a training run resumes from its checkpoint. The exit status is 0 once all pieces have passed.

The training runs of `accuracy` and `methods` are in DIR/runs. Their number of steps and how many of them run at once
follow from the stage `speed` and the budget of the first call, and are kept in DIR/training.json.

OVERRIDES are those of run.py, such as `dataset=image_folder dataset.root=DIR`. `check` and `speed` use those of them
that `meanteacher benchmark` takes, and take its options too, such as `--rounds=1`. `method=`, `model=`, `label=` and
`seed=` replace the stage's own lists.
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import check
import speed
import training
from pieces import Study

from meanteacher.config.cli import run_command
from meanteacher.config.errors import UserError

STAGES = {
    "check": check.pieces,
    "speed": speed.pieces,
    "accuracy": training.accuracy,
    "methods": training.methods,
}
"""A function of the study and the overrides that returns the stage's pieces and how many of them run at once."""


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options, and the overrides by key. Raises UserError for a bad value."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("gpu_study", description=__doc__, formatter_class=formatter, exit_on_error=False)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--budget", type=float, default=570, metavar="SECONDS", help="(%(default)s)")
    options, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument != "--"]
    for override in overrides:
        if "=" not in override:
            raise UserError(f"{override}: an override is key=value")
    return options, dict(override.split("=", 1) for override in overrides)


def main(arguments: list[str]) -> int:
    """Run one stage; returns the exit status. Raises UserError and the errors of argparse and Hydra."""
    options, overrides = parse(arguments)
    study = Study(options.out, options.stage, options.budget)
    pieces, at_once = STAGES[options.stage](study, overrides)
    return study.run(pieces, at_once)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(lambda: main(sys.argv[1:])))

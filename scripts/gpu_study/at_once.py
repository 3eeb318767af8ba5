"""Measures training steps in 1, 2 and 4 processes at once on one device.

Usage: `python scripts/gpu_study/at_once.py OUT.json ARGUMENTS`, with the arguments of `meanteacher benchmark`.
"""

import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from meanteacher.benchmark.command import compose_settings, parse
from meanteacher.benchmark.measure import Process
from meanteacher.benchmark.variants import list_variants
from meanteacher.config.cli import run_command
from meanteacher.config.files import write_atomically
from meanteacher.runs import report
from meanteacher.training.device import choose_device, choose_precision

COUNTS = [count for count in (1, 2, 4) if count <= max(2, os.cpu_count() or 1)]
"""Numbers of processes; each keeps a CPU core busy."""

REPEATS = 10
"""A measurement takes this many times the steps of a round of the benchmark, so that all processes overlap."""


def measure(arguments: list[str]) -> dict:
    """The total images per second of 1, 2 and 4 processes, and the settings that were measured."""
    options, overrides = parse(arguments)
    settings, names = compose_settings(options, overrides), {"model": options.model, "method": options.method}
    device = choose_device(settings.trainer.device)
    variant = list_variants(device, choose_precision(settings.trainer.precision, device), False)[-1]
    images = settings.trainer.labeled_batch + settings.trainer.unlabeled_batch
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    with ExitStack() as stack:
        processes, start_seconds = [], []
        for _ in range(max(COUNTS)):
            started = time.perf_counter()
            processes.append(Process(settings, names, variant))
            start_seconds.append(time.perf_counter() - started)
            stack.callback(processes[-1].close)
        for _ in range(options.rounds):
            for count in COUNTS:
                for process in processes[:count]:
                    process.send("seconds", REPEATS * options.steps)
                seconds = [process.receive() for process in processes[:count]]
                rates[count].append(sum(images / value for value in seconds))
    return {
        **names,
        "variant": variant.name,
        "steps": REPEATS * options.steps,
        "images_per_step": images,
        "start_seconds": max(start_seconds),
        "images_per_second": {count: statistics.median(values) for count, values in rates.items()},
        "images_per_second_by_round": rates,
        **report.environment(device),
    }


def main(arguments: list[str]) -> int:
    """Measure and write the result file; returns the exit status."""
    path, *rest = arguments
    measured = measure(rest)
    write_atomically(Path(path), json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured["images_per_second"]))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))

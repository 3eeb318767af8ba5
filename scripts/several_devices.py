"""Measures how much faster a run is in two processes with one thread each than in one, and the price of elastic runs.

Usage: `python scripts/several_devices.py --out results/several_devices [--model wrn_28_2] [OVERRIDES]`
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from meanteacher.benchmark.command import compose_settings
from meanteacher.benchmark.ours import CHOICES
from meanteacher.config.settings import Choices, Settings
from meanteacher.runs import report
from meanteacher.runs.run_dir import FollowedRunDir
from meanteacher.runs.session import Session
from meanteacher.training.ranks import Ranks
from meanteacher.training.sharding import sharded

VARIANTS = {"one": (1, "none"), "two": (2, "none"), "elastic one": (1, "bitwise"), "elastic two": (2, "bitwise")}
"""The number of processes and `trainer.elastic`, by name."""

WARMUP = 2
RATIOS = {
    "two processes, relative to one": ("one", "two"),
    "elastic on one process, relative to not elastic": ("one", "elastic one"),
    "elastic on two processes, relative to not elastic": ("two", "elastic two"),
    "elastic on two processes, relative to elastic on one": ("elastic one", "elastic two"),
}
HEAD = """`{command}`

{hardware}, {cores} cores, {method} on {model} in {precision}, {labeled} labeled and {unlabeled} unlabeled images a
step, commit {commit}. Each process has one thread. In each of {rounds} rounds, each variant trains {steps} step(s)
while the others wait. The load of the machine (one minute) was {load[0]:.1f} before and {load[1]:.1f} after the
measurement: what exceeds its cores competed with the measurement, which changes the time, but hardly the processor
time. Both are those of the slowest process.

| variant | seconds a step, median (range) | processor seconds a step, median (range) |
|---|---|---|
"""


def train(connection: Connection, ranks: Ranks, store: str, settings: Settings, names: dict[str, str]) -> None:
    """In a process of a variant: train as many steps as the connection says, and answer with the seconds."""
    with tempfile.TemporaryDirectory() as folder, ranks.connected(f"file://{store}"):
        session = Session(settings, Choices(**CHOICES | names), FollowedRunDir(Path(folder), ""), False, ranks)
        step = session.trainer.train_step
        networks = [network for network in (step.method, step.average) if network is not None]
        with sharded(networks, type(session.trainer.models()["student"]), session.partition):
            for _ in range(WARMUP):
                step(0)
            connection.send(session.precision)
            while count := connection.recv():
                started = time.perf_counter(), time.process_time()
                for number in range(count):
                    step(number)
                connection.send((time.perf_counter() - started[0], time.process_time() - started[1]))


def start(count: int, elastic: str, settings: Settings, names: dict[str, str], folder: Path) -> list[Connection]:
    """Start the processes of a variant; returns the connections to them."""
    trainer = settings.trainer.model_dump() | {"threads": 1, "elastic": elastic}
    settings, context, connections = settings.replace({"trainer": trainer}), multiprocessing.get_context("spawn"), []
    for rank in range(count):
        own, other = context.Pipe()
        arguments = (other, Ranks(rank, count, rank, count), str(folder / f"{elastic}-{count}"), settings, names)
        context.Process(target=train, args=arguments, daemon=True).start()
        connections.append(own)
    return connections


def measure(connections: list[Connection], steps: int) -> tuple[float, float]:
    """Seconds and processor seconds per step, each of the slowest process."""
    for connection in connections:
        connection.send(steps)
    seconds, processor_seconds = zip(*(connection.recv() for connection in connections), strict=True)
    return max(seconds) / steps, max(processor_seconds) / steps


def show(measured: dict) -> str:
    """The measurements as a Markdown page."""
    text, timings = HEAD.format(**measured), (measured["seconds_per_step"], measured["processor_seconds_per_step"])
    for name in VARIANTS:
        text += f"| {name} | {' | '.join(median_and_range(timing[name], 3) for timing in timings)} |\n"
    text += "\n| speed | by time | by processor time |\n|---|---|---|\n"
    for name, (before, after) in RATIOS.items():
        ratios = [np.divide(timing[before], timing[after]).tolist() for timing in timings]
        text += f"| {name} | {' | '.join(median_and_range(ratio, 2) for ratio in ratios)} |\n"
    return text


def median_and_range(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(arguments: list[str]) -> None:
    """Measure, and write OUT.json and OUT.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", default="mean_teacher")
    parser.add_argument("--model", default="wrn_28_2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1)
    options, overrides = parser.parse_known_args(arguments)
    options.device, options.images = "cpu", 2000
    settings, names = compose_settings(options, overrides), {"model": options.model, "method": options.method}
    load, seconds, processor_seconds = [os.getloadavg()[0]], {n: [] for n in VARIANTS}, {n: [] for n in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        variants = {name: start(*each, settings, names, Path(folder)) for name, each in VARIANTS.items()}
        precision = [connection.recv() for connections in variants.values() for connection in connections][0]
        for number in range(options.rounds):
            for name in list(variants)[:: -1 if number % 2 else 1]:
                for timings, value in zip(
                    (seconds, processor_seconds), measure(variants[name], options.steps), strict=True
                ):
                    timings[name].append(value)
        for connections in variants.values():
            for connection in connections:
                connection.send(0)
    measured = {"command": " ".join(["python scripts/several_devices.py", *arguments]), **names}
    measured |= {"rounds": options.rounds, "steps": options.steps, "cores": os.cpu_count(), "precision": precision}
    measured |= {"labeled": settings.trainer.labeled_batch, "unlabeled": settings.trainer.unlabeled_batch}
    measured |= {"load": [*load, os.getloadavg()[0]], "seconds_per_step": seconds}
    measured |= {"processor_seconds_per_step": processor_seconds}
    measured |= report.environment(torch.device("cpu")) | {"threads": 1}
    options.out.with_suffix(".json").write_text(json.dumps(measured, indent=1) + "\n")
    options.out.with_suffix(".md").write_text("# Several devices\n\n" + show(measured))


if __name__ == "__main__":
    main(sys.argv[1:])

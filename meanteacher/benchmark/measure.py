"""Measures all variants in turns, each in a process of its own: the allocator settings of one do not affect another."""

import logging
import multiprocessing
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from meanteacher.benchmark.variants import REFERENCE, Variant
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.runs import report
from meanteacher.training.device import choose_device, peak_memory

PROFILED_STEPS = 3


def serve(connection: Connection, settings: Settings, names: dict[str, str], variant: Variant) -> None:
    """Build the variant, then call the methods whose names arrive until the connection closes. Runs in its own process.

    Each answer is a pair of whether the call succeeded, and its result or the error message.
    """
    logging.getLogger("meanteacher").addHandler(logging.NullHandler())
    try:
        if variant.compile is None:
            from meanteacher.benchmark.reference import Reference

            worker = Reference(settings)
        else:
            from meanteacher.benchmark.ours import Ours

            worker = Ours(settings, names, variant)
        connection.send((True, None))
        while True:
            name, arguments = connection.recv()
            result = peak_memory(worker.device) if name == "memory" else getattr(worker, name)(*arguments)
            connection.send((True, result))
    except (EOFError, KeyboardInterrupt):
        sys.exit()
    except Exception as error:
        connection.send((False, one_line(error)))


class Process:
    """A variant in its own process. `process("seconds", 3)` calls its method `seconds` and waits for the result.

    Raises UserError, with the name of the variant, if the call fails or the process ends.
    """

    def __init__(self, settings: Settings, names: dict[str, str], variant: Variant):
        context = multiprocessing.get_context("spawn")
        self.name, (self.connection, other_end) = variant.name, context.Pipe()
        self.process = context.Process(target=serve, args=(other_end, settings, names, variant))
        self.process.start()
        other_end.close()
        self.receive()

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments)
        return self.receive()

    def send(self, name: str, *arguments: Any) -> None:
        """Start a call whose result `receive` returns."""
        self.connection.send((name, arguments))

    def receive(self) -> Any:
        """The next answer of the process."""
        try:
            succeeded, result = self.connection.recv()
        except EOFError:
            succeeded, result = False, "the process ended; there may be too little memory"
        if not succeeded:
            raise UserError(f"{self.name}: {result}")
        return result

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join(10)
        self.process.kill()


def measure_round(processes: dict[str, Process], steps: int, reverse: bool) -> dict[str, float]:
    """Seconds per step of each variant, and under `fit` of the training loop of the last one.

    reverse: measure in reverse order.
    """
    *_, last = processes
    measurements = {name: lambda p=process: p("seconds", steps) for name, process in processes.items()}
    measurements["fit"] = lambda: processes[last]("fit_seconds", steps)
    return {name: measurements[name]() for name in list(measurements)[:: -1 if reverse else 1]}


def fastest_workers(reference: Process, workers: list[int], steps: int) -> dict[int, float]:
    """Seconds per step of the plain loop by the number of workers; it is left with the fastest number."""
    seconds = {}
    for count in workers:
        reference("load", count)
        seconds[count] = reference("seconds", steps)
    reference("load", min(seconds, key=seconds.get))
    return seconds


def measure_variants(
    settings: Settings, names: dict[str, str], variants: list[Variant], *, workers: list[int], rounds: int, steps: int
) -> dict:
    """All measurements, each as a list with a value per round. A round for warming up comes before and is dropped.

    names: of model and method; variants: the plain loop first; workers: numbers of workers to try for its loaders.
    """
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for variant in variants:
            processes[variant.name] = process = Process(settings, names, variant)
            stack.callback(process.close)
        reference, *_, last = processes.values()
        by_workers = fastest_workers(reference, workers, steps)
        timings = [measure_round(processes, steps, bool(i % 2)) for i in range(rounds + 1)][1:]
        parts = [last("parts", steps) for _ in range(rounds)]
        measurements = {
            **names,
            "device": str(choose_device(settings.trainer.device)),
            "precision": variants[-1].precision,
            "compiled": variants[-1].compile == "always",
            "steps": steps,
            "images_per_step": settings.trainer.labeled_batch + settings.trainer.unlabeled_batch,
            "workers": min(by_workers, key=by_workers.get),
            "seconds_per_step_by_workers": by_workers,
            "seconds_per_step": {name: [timing[name] for timing in timings] for name in processes},
            "fit_seconds_per_step": [timing["fit"] for timing in timings],
            "parts": {part: [seconds[part] for seconds in parts] for part in parts[0]},
            "roofline": last("roofline"),
            **last("profile", PROFILED_STEPS),
            "peak_memory_bytes": {name: process("memory") for name, process in processes.items()},
        }
    return measurements | derive_speeds(measurements) | report.environment(torch.device(measurements["device"]))


def derive_speeds(measurements: dict) -> dict:
    """Images per second, and how many times faster than the plain loop each variant is: a value per round."""
    seconds, images = measurements["seconds_per_step"], measurements["images_per_step"]
    reference = next(name for name in seconds if name.startswith(REFERENCE))
    return {
        "images_per_second": {name: [images / value for value in values] for name, values in seconds.items()},
        "ratio_to_plain_loop": {
            name: np.divide(seconds[reference], values).tolist() for name, values in seconds.items()
        },
    }

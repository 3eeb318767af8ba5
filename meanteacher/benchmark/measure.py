"""Every variant in a process of its own, taking turns: settings of one, like its allocator's, do not reach another."""

import logging
import multiprocessing
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from meanteacher.benchmark import REFERENCE, Variant
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.runs import report
from meanteacher.training.device import choose_device, peak_memory


def serve(connection, settings: Settings, names: dict, variant: Variant) -> None:
    """In the variant's process: make it, then call its methods by name until the connection closes."""
    logging.getLogger("meanteacher").addHandler(logging.NullHandler())
    try:
        if variant.compile is None:
            from meanteacher.benchmark.reference import Reference

            made = Reference(settings)
        else:
            from meanteacher.benchmark.ours import Ours

            made = Ours(settings, names, variant)
        connection.send((True, None))
        while True:
            name, arguments = connection.recv()
            found = peak_memory(made.device) if name == "memory" else getattr(made, name)(*arguments)
            connection.send((True, found))
    except (EOFError, KeyboardInterrupt):
        sys.exit()
    except Exception as error:
        connection.send((False, one_line(error)))


class Process:
    """A variant at work: `process("seconds", 3)` calls its method there and waits. Raises UserError where that fails."""

    def __init__(self, settings: Settings, names: dict, variant: Variant):
        context = multiprocessing.get_context("spawn")
        self.name, (self.connection, other) = variant.name, context.Pipe()
        self.process = context.Process(target=serve, args=(other, settings, names, variant))
        self.process.start()
        other.close()
        self.receive()

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.connection.send((name, arguments))
        return self.receive()

    def receive(self) -> Any:
        try:
            worked, found = self.connection.recv()
        except EOFError:
            worked, found = False, "its process ended; the memory may be too small"
        if not worked:
            raise UserError(f"{self.name}: {found}")
        return found

    def close(self) -> None:
        self.connection.close()
        self.process.join(10)
        self.process.kill()


def one_round(processes: dict[str, Process], steps: int, backward: bool) -> dict[str, float]:
    """Seconds per step of each variant, forwards or backwards, and of the last one's `fit()`."""
    *_, last = processes
    work = {name: lambda p=process: p("seconds", steps) for name, process in processes.items()}
    work["fit"] = lambda: processes[last]("fit_seconds", steps)
    return {name: work[name]() for name in list(work)[:: -1 if backward else 1]}


def all_variants(
    settings: Settings, names: dict, variants: list[Variant], workers: list[int], rounds: int, steps: int
) -> dict:
    """Everything, with one value per round; the first round, which warms up, is left out."""
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for variant in variants:
            processes[variant.name] = process = Process(settings, names, variant)
            stack.callback(process.close)
        reference, *ours = processes.values()
        tried = {}
        for count in workers:
            reference("load", count)
            tried[count] = reference("seconds", steps)
        reference("load", min(tried, key=tried.get))
        timings = [one_round(processes, steps, bool(i % 2)) for i in range(rounds + 1)][1:]
        parts = [ours[-1]("parts", steps) for _ in range(rounds)]
        seconds = {name: [found[name] for found in timings] for name in processes}
        found = {
            **names,
            "device": str(choose_device(settings.trainer.device)),
            "precision": variants[-1].precision,
            "compiled": variants[-1].compile == "always",
            "steps": steps,
            "images_per_step": images_per_step(settings),
            "workers": min(tried, key=tried.get),
            "seconds_per_step_by_workers": tried,
            "seconds_per_step": seconds,
            "fit_seconds_per_step": [found["fit"] for found in timings],
            "parts": {part: [found[part] for found in parts] for part in parts[0]},
            "roofline": ours[-1]("roofline"),
            "kernels": ours[-1]("kernels"),
            "peak_memory_bytes": {name: process("memory") for name, process in processes.items()},
        }
    return found | derived(found) | report.environment(torch.device(found["device"]))


def images_per_step(settings: Settings) -> int:
    return settings.trainer.labeled_batch + settings.trainer.unlabeled_batch


def derived(found: dict) -> dict:
    """Speeds and ratios, one value per round."""
    seconds = found["seconds_per_step"]
    reference = next(name for name in seconds if name.startswith(REFERENCE))
    return {
        "images_per_second": {name: [found["images_per_step"] / s for s in each] for name, each in seconds.items()},
        "ratio_to_plain_loop": {name: np.divide(seconds[reference], each).tolist() for name, each in seconds.items()},
    }

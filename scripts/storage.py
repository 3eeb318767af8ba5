"""Measures the memory and speed of both storages of images for data sets of increasing size.

Usage: `python scripts/storage.py --out results/storage`
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from meanteacher.data import Images
from meanteacher.data.loader import ImageStore, Loader
from meanteacher.data.splits import Split
from meanteacher.runs import report

CPU, MATRIX = torch.device("cpu"), torch.full((384, 384), 0.01)
SHAPE, LABELED, UNLABELED, BLOCK, COMPUTE_MS = (3, 32, 32), 64, 192, 10, 20
HEAD = """`{command}`, {hardware}, one thread, commit {commit}. Random images, 3×32×32; a batch has 64 labeled and 192
unlabeled images; the simulated compute is about 20 ms of matrix products. Medians of {rounds} rounds of {batches}
batches. Each round measures each storage without compute in its own process, and both alternately with compute in a
third.

| images | storage | RSS before (MiB) | RSS after (MiB) | batches/s without compute | relative speed with compute
(range) | |---|---|---|---|---|---|
"""


def write_images(path: Path, count: int) -> None:
    """Write `count` random images as a .npy file, in parts."""
    rng, pixels = np.random.default_rng(0), np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, 10_000):
        part = pixels[start : start + 10_000]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)


def time_step(loader: Loader | None, step: int, products: int) -> float:
    """Milliseconds of loading a batch, followed by matrix products that overlap with prefetching."""
    start = time.perf_counter()
    if loader:
        loader(step)
    for _ in range(products):
        MATRIX @ MATRIX
    return 1000 * (time.perf_counter() - start)


def measure(path: str, modes: list[str], batches: int, products: int) -> dict:
    """Measure in this process: resident memory before and after, and median milliseconds per batch.

    The modes alternate in blocks of batches.
    """
    time_step(None, 0, 100)
    process = psutil.Process()
    before = process.memory_info().rss / 2**20
    pixels = np.load(path, mmap_mode="r")
    everything = np.arange(len(pixels))
    train = Images(pixels=pixels, targets=np.zeros(len(pixels), np.int64), names=[])
    split = Split(labeled=everything[:4000], unlabeled=everything, validation=everything[:0])
    options = {"train": train, "split": split, "labeled_batch": LABELED, "unlabeled_batch": UNLABELED, "seed": 0}
    loaders = {mode: Loader(**options, storage=ImageStore(pixels, CPU, mode)) for mode in modes}
    times = {mode: [] for mode in modes}
    for start in range(0, batches, BLOCK):
        for mode, loader in loaders.items():
            times[mode] += [time_step(loader, k, products) for k in range(start, start + BLOCK)]
    medians = {mode: statistics.median(values) for mode, values in times.items()}
    return {"mib_before": before, "mib_after": process.memory_info().rss / 2**20, "ms": medians}


def run_rounds(path: Path, options: argparse.Namespace, products: int) -> list[dict]:
    """In each round: resident only, memory-mapped only, and both alternately with compute, each in its own process."""
    runs = []
    for _ in range(options.rounds):
        runs.append({})
        for modes, count in (("device", 0), ("mmap", 0), ("device,mmap", products)):
            command = [sys.executable, __file__, "--measure", str(path), modes, str(options.batches), str(count)]
            runs[-1][modes] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return runs


def format_row(count: int, mode: str, runs: list[dict]) -> str:
    """A table row: medians over the rounds, and the relative speed with its range."""
    before, after = (statistics.median(run[mode][key] for run in runs) for key in ("mib_before", "mib_after"))
    bare = 1000 / statistics.median(run[mode]["ms"][mode] for run in runs)
    alternating = [run["device,mmap"]["ms"] for run in runs]
    ratios = [ms["device"] / ms[mode] for ms in alternating]
    relative = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if mode == "mmap" else "1"
    return f"| {count:,} | {mode} | {before:.0f} | {after:.0f} | {bare:.0f} | {relative} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/storage"), help="write OUT.json and OUT.md")
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        print(json.dumps(measure(options.measure[0], options.measure[1].split(","), *map(int, options.measure[2:]))))
        return
    products = round(COMPUTE_MS / statistics.median(time_step(None, 0, 1) for _ in range(200)))
    content = {"command": "python scripts/storage.py", "products": products, "batches": options.batches, "runs": {}}
    content |= report.environment(CPU)
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder, "pixels.npy"), count)
            content["runs"][count] = run_rounds(Path(folder, "pixels.npy"), options, products)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(
        HEAD.format(**content, rounds=options.rounds)
        + "".join(
            format_row(count, mode, runs) for count, runs in content["runs"].items() for mode in ("device", "mmap")
        )
    )
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

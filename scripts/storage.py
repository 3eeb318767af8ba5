"""Memory and speed of the two ways to keep images, for growing data sets: `python scripts/storage.py --out results/storage`."""

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
HEAD = """`{command}`, {hardware}, one thread, commit {commit}. Images of noise, 3×32×32; a batch is 64 labeled and 192
unlabeled ones, the compute about 20 ms of matrix products. Medians of {rounds} rounds of {batches} batches; each round measures
each storage in a process of its own, and both in turn beside the compute in a third.

| images | storage | RSS before (MiB) | RSS after (MiB) | batches/s, bare | speed with compute, relative (range) |
|---|---|---|---|---|---|
"""


def make(path: Path, count: int) -> None:
    """`count` images of noise as a .npy file, written in parts."""
    rng, pixels = np.random.default_rng(0), np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, 10_000):
        part = pixels[start : start + 10_000]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)


def timed(loader: Loader | None, step: int, products: int) -> float:
    """Milliseconds of a batch and of the matrix products that reading ahead hides behind."""
    start = time.perf_counter()
    if loader:
        loader(step)
    for _ in range(products):
        MATRIX @ MATRIX
    return 1000 * (time.perf_counter() - start)


def measure(path: str, modes: list[str], batches: int, products: int) -> dict:
    """In this process: resident memory before and after, and median milliseconds a batch. The modes take turns in blocks."""
    timed(None, 0, 100)
    process = psutil.Process()
    before = process.memory_info().rss / 2**20
    pixels = np.load(path, mmap_mode="r")
    everything = np.arange(len(pixels))
    train = Images(pixels=pixels, targets=np.zeros(len(pixels), np.int64), names=[])
    split = Split(labeled=everything[:4000], unlabeled=everything, validation=everything[:0])
    given = {"train": train, "split": split, "labeled_batch": LABELED, "unlabeled_batch": UNLABELED, "seed": 0}
    loaders = {mode: Loader(**given, storage=ImageStore(pixels, CPU, mode)) for mode in modes}
    times = {mode: [] for mode in modes}
    for start in range(0, batches, BLOCK):
        for mode, loader in loaders.items():
            times[mode] += [timed(loader, k, products) for k in range(start, start + BLOCK)]
    middle = {mode: statistics.median(found) for mode, found in times.items()}
    return {"mib_before": before, "mib_after": process.memory_info().rss / 2**20, "ms": middle}


def rounds(path: Path, options: argparse.Namespace, products: int) -> list[dict]:
    """Each round: resident alone, mapped alone, both in turn beside compute; every one in a process of its own."""
    runs = []
    for _ in range(options.rounds):
        runs.append({})
        for modes, times in (("device", 0), ("mmap", 0), ("device,mmap", products)):
            command = [sys.executable, __file__, "--one", str(path), modes, str(options.batches), str(times)]
            runs[-1][modes] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return runs


def row(count: int, mode: str, runs: list[dict]) -> str:
    """Medians over the rounds; the relative speed with its range."""
    before, after = (statistics.median(run[mode][key] for run in runs) for key in ("mib_before", "mib_after"))
    bare = 1000 / statistics.median(run[mode]["ms"][mode] for run in runs)
    both = [run["device,mmap"]["ms"] for run in runs]
    ratios = [ms["device"] / ms[mode] for ms in both]
    relative = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if mode == "mmap" else "1"
    return f"| {count:,} | {mode} | {before:.0f} | {after:.0f} | {bare:.0f} | {relative} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/storage"), help="writes OUT.json and OUT.md")
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(measure(options.one[0], options.one[1].split(","), *map(int, options.one[2:]))))
        return
    products = round(COMPUTE_MS / statistics.median(timed(None, 0, 1) for _ in range(200)))
    content = {"command": "python scripts/storage.py", "products": products, "batches": options.batches, "runs": {}}
    content |= report.environment(CPU)
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder, "pixels.npy"), count)
            content["runs"][count] = rounds(Path(folder, "pixels.npy"), options, products)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(
        HEAD.format(**content, rounds=options.rounds)
        + "".join(row(count, mode, runs) for count, runs in content["runs"].items() for mode in ("device", "mmap"))
    )
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

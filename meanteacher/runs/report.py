"""What a run says of itself: result.json, and the same for a person."""

import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from meanteacher.config import schema
from meanteacher.data import Dataset
from meanteacher.training import device as devices


def scores(history: list[dict], part: str, models: list[str]) -> dict[str, dict]:
    """Per model, errors as fractions: last, median of the last 20 evaluations (None under 20), best, and last ECE and CE.

    The best evaluation is reported for the test part only, under a name that says what it is: `error_best_on_test`.
    """
    found = {}
    for model in models:
        evaluations = [record for record in history if f"{part}/{model}/error" in record]
        errors = [record[f"{part}/{model}/error"] for record in evaluations]
        if not errors:
            continue
        found[model] = {
            "error_last": errors[-1],
            "error_median_last_20": statistics.median(errors[-20:]) if len(errors) >= 20 else None,
            **({"error_best_on_test": min(errors)} if part == "test" else {}),
            "cross_entropy": evaluations[-1][f"{part}/{model}/cross_entropy"],
            "ece": evaluations[-1][f"{part}/{model}/ece"],
        }
    return found


def environment(device: torch.device) -> dict:
    """Versions, hardware and the commit of the code, for result.json."""
    names = ("torch", "torchvision", "numpy", "pillow", "hydra-core", "wandb", "meanteacher")
    return {
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in names},
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }


def data(dataset: Dataset, settings: dict) -> dict:
    """What identifies the images, for result.json: name, counts of images and classes; of a folder also its digest."""
    counts = {"train": len(dataset.train.targets), "test": len(dataset.test.targets), "classes": len(dataset.classes)}
    root = settings["dataset"].get("root")
    images = {"fingerprint": schema.images(root, settings["data_dir"])} if root else {}
    return {"name": dataset.name} | counts | images


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout this package lies in, with `+` where files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def measured(trainer, device: torch.device) -> dict:
    """What a run has measured by now, for result.json."""
    models = list(trainer.models())
    parts = {part: scores(trainer.history, part, models) for part in trainer.evaluator.parts}
    return {
        "models": parts["test"],
        "validation": parts.get("validation"),
        "steps": trainer.step,
        "images_per_second": trainer.images_per_second(),
        "training_seconds": trainer.stopwatch.seconds,
        "peak_memory_bytes": devices.peak_memory(device),
    }


def text(result: dict, folder: Path) -> str:
    """A finished result for a person: a line per model, the folder and the curves."""
    lines = []
    for part, models in (("test", result["models"]), ("validation", result["validation"] or {})):
        for name, found in models.items():
            median = found["error_median_last_20"]
            also = f", median of the last 20 evaluations {100 * median:.2f} %" if median is not None else ""
            lines.append(
                f"{part} error of the {name}: {100 * found['error_last']:.2f} %{also} (ECE {found['ece']:.3f})"
            )
    lines.append(f"run folder: {folder}")
    curves = folder / "plots" / "curves.png"
    return "\n".join([*lines, f"curves: {curves}"] if curves.exists() else lines)

"""What is recorded of a finished run beside its numbers, and its summary for a person."""

import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from meanteacher.config.digest import images_digest
from meanteacher.config.locations import PACKAGE
from meanteacher.config.settings import Settings
from meanteacher.data import Dataset
from meanteacher.runs.result import Result, Scores
from meanteacher.training.pseudo_labels import PREFIX

MEDIAN_OF = 20
"""Evaluations, the last ones, whose median error is reported."""

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "hydra-core", "wandb", "meanteacher")
"""Packages whose versions are recorded."""


def scores(history: list[dict], part: str, networks: list[str]) -> dict[str, Scores]:
    """Scores of each network on one part: last error, median of the last 20 (None under 20), ECE and cross-entropy.

    The smallest error is reported for the test part only, as `error_best_on_test`: it is chosen on the test part.
    """
    by_network = {}
    for network in networks:
        evaluations = [record for record in history if f"{part}/{network}/error" in record]
        errors = [record[f"{part}/{network}/error"] for record in evaluations]
        if errors:
            best_on_test = {"error_best_on_test": min(errors)} if part == "test" else {}
            by_network[network] = Scores(
                error_last=errors[-1],
                error_median_last_20=statistics.median(errors[-MEDIAN_OF:]) if len(errors) >= MEDIAN_OF else None,
                **best_on_test,
                cross_entropy=evaluations[-1][f"{part}/{network}/cross_entropy"],
                ece=evaluations[-1][f"{part}/{network}/ece"],
            )
    return by_network


def scores_by_part(history: list[dict], parts: list[str], networks: list[str]) -> dict:
    """The scores on the test part and on the validation images, None without any: fields of `Result`."""
    by_part = {part: scores(history, part, networks) for part in parts}
    return {"models": by_part["test"], "validation": by_part.get("validation")}


def pseudo_label_scores(history: list[dict]) -> dict[str, float] | None:
    """The last scores of the pseudo-labels by name; None without any. See `PseudoLabelMeter.scores`."""
    prefix = f"train/{PREFIX}"
    for record in reversed(history):
        if scores := {name.removeprefix(prefix): score for name, score in record.items() if name.startswith(prefix)}:
            return scores
    return None


def environment(device: torch.device) -> dict:
    """Versions, hardware and the commit of the code: fields of `Result`."""
    return {
        "versions": versions(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }


def describe_data(data: Dataset, settings: Settings) -> dict:
    """What identifies the images: the name, counts of images and classes, and the digest of a folder's content.

    Test images of classes without labels are counted, too.
    """
    unknown = len(data.unknown_test.targets) if data.unknown_test else 0
    counts = {"train": len(data.train.targets), "test": len(data.test.targets) + unknown, "classes": len(data.classes)}
    content = images_digest(settings.dataset.node)
    return {"name": data.name} | counts | ({"fingerprint": content} if content else {})


def versions() -> dict[str, str | None]:
    """The versions of Python and of `PACKAGES`; None for one that is not installed."""
    return {"python": platform.python_version()} | {name: installed_version(name) for name in PACKAGES}


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's model name if the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that holds this package, with `+` if files differ; None outside of a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", "__init__.py"
        )  # installed inside of another project's checkout, it is not tracked
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def text(result: Result, folder: Path) -> str:
    """A finished result for a person: a line per network, the folder, the curves and the page."""
    lines = []
    for part, networks in (("test", result.models or {}), ("validation", result.validation or {})):
        for name, network in networks.items():
            median = network.error_median_last_20
            also = f", median of the last 20 evaluations {100 * median:.2f} %" if median is not None else ""
            lines.append(f"{part} error of the {name}: {100 * network.error_last:.2f} %{also} (ECE {network.ece:.3f})")
            if network.balanced_accuracy is not None:
                lines.append(f"{part} balanced accuracy of the {name}: {100 * network.balanced_accuracy:.2f} %")
            if network.auroc_unknown is not None:
                lines.append(f"AUROC of unknown classes of the {name}: {network.auroc_unknown:.3f}")
    lines.append(f"run folder: {folder}")
    files = {"curves": folder / "plots" / "curves.png", "report": folder / "report.html"}
    return "\n".join(lines + [f"{name}: {path}" for name, path in files.items() if path.exists()])

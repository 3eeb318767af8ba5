"""Builds result files for the tests of comparisons."""

import copy
import json
from pathlib import Path

SETTINGS = {
    "dataset": {
        "name": "digits",
        "_target_": "d.digits",
        "data_dir": "x",
        "storage": "auto",
        "labeled_in_unlabeled": True,
    },
    "model": {"_target_": "m.WideResNet", "depth": 10, "width": 1},
    "augment": {"_target_": "a.Augment", "views": {"weak": {}}},
    "schedule": {"_target_": "s.Cosine", "steps": 100},
    "method": {"_target_": "x.Method"},
    "optimizer": {"_target_": "o.sgd", "lr": 0.1},
    "trainer": {
        "precision": "auto",
        "labeled_batch": 16,
        "unlabeled_batch": 48,
        "average_decay": 0.99,
        "device": "auto",
    },
    "validation": 0,
    "steps": 100,
    "eval_every": 5,
}


def changed_settings(changes: dict) -> dict:
    """SETTINGS with changes by dotted key."""
    settings = copy.deepcopy(SETTINGS)
    for name, value in changes.items():
        *groups, last = name.split(".")
        node = settings
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    if "steps" in changes:
        settings["schedule"]["steps"] = changes["steps"]
    return settings


def scores(error: float) -> dict:
    """The scores of a network with this last error."""
    return {"error_last": error, "error_median_last_20": error + 0.01, "error_best_on_test": 0.001, "ece": error / 2}


def result(method: str, label, seed: int, error: float, changes: dict | None = None, **more) -> dict:
    """The content of a finished run's file: `error` is that of the deployed network, the student's is .02 higher.

    changes: settings by dotted key; more: other fields.
    """
    settings = changed_settings(changes or {})
    return {
        "schema_version": 2,
        "status": "finished",
        "digest": "0123456789",
        "command": f"python run.py method={method}",
        "choices": {"dataset": settings["dataset"]["name"], "method": method, "optimizer": "sgd", "model": "wrn_10_1"},
        "source": "aaaa",
        "label": label,
        "seed": seed,
        "split_seed": seed,
        "settings": settings,
        "bitwise": True,
        "models": {"student": scores(error + 0.02), "average" if method == "supervised" else "teacher": scores(error)},
        "validation": None,
        "steps": settings["steps"],
        "images_per_second": 100.0 + seed,
        "training_seconds": 3600.0,
        "peak_memory_bytes": 2**30,
        "hardware": "a CPU",
        "commit": "c0ffee",
        "precision": "fp32",
        "split_digest": f"split {label} {seed}",
        "data": {"name": "digits", "train": 1438, "test": 359, "classes": 10},
    } | more


def failed(method: str, seed: int, reason: str) -> dict:
    """The content of the file of a run that failed during training."""
    unknown = ("models", "data", "precision", "split_digest", "bitwise")
    known = {name: value for name, value in result(method, 20, seed, 0.1).items() if name not in unknown}
    return known | {"status": "failed", "reason": reason}


def put(folder: Path, *results: dict) -> Path:
    """Write each result into its own run folder below `folder`."""
    start = len(list(folder.glob("*"))) if folder.exists() else 0
    for number, content in enumerate(results, start):
        run = folder / f"run-{number:03}"
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps(content))
    return folder


def three_seeds(folder: Path) -> Path:
    """Supervised and mean_teacher over three seeds; their differences are .10, .12 and .08."""
    errors = {"supervised": (0.20, 0.24, 0.22), "mean_teacher": (0.10, 0.12, 0.14)}
    return put(folder, *(result(method, 20, seed, errors[method][seed]) for seed in range(3) for method in errors))


def markdown(folder: Path) -> str:
    return (folder / "comparison.md").read_text()

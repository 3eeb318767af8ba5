"""The name of a run: a digest over everything that determines its result."""

import functools
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from meanteacher.config.added_keys import drop_added
from meanteacher.config.errors import UserError
from meanteacher.config.trust import check_targets

WATCHING = {"data_dir", "output", "fresh", "logger", "split"}
WATCHING_TRAINER = {
    "device",
    "devices",
    "elastic",
    "threads",
    "compile",
    "log_every",
    "checkpoint_minutes",
    "eval_batch",
}
"""Keys that change where and how a run is watched, not what it computes."""

LOCATIONS = {"meanteacher.data.table.table": "file", "meanteacher.data.huggingface.huggingface": "path"}
"""The key that says where the images are, by `_target_`; in any other data set it is `root`."""

PLACES = {"data_dir", "root", *LOCATIONS.values()}
"""Keys of a data set that hold paths."""


def run_digest(config: dict) -> str:
    """Ten hexadecimal digits over the configuration, the images and the split file.

    1 and 1.0 are equal. A `_target_` counts by the name of its class, not by the module that holds it, so code may
    move. Keys of `ADDED_KEYS` with their earlier value do not count. A folder of images counts by its content, not by
    its path. Raises UserError if the folder of images or the split file cannot be read.
    """
    config = drop_added(config)
    relevant = {key: value for key, value in config.items() if key not in WATCHING}
    relevant["trainer"] = {key: value for key, value in config["trainer"].items() if key not in WATCHING_TRAINER}
    hidden = storage_keys(config["dataset"])
    relevant["dataset"] = {key: value for key, value in config["dataset"].items() if key not in hidden}
    if content := images_digest(config["dataset"]):
        relevant["images"] = content
    if config["split"]:
        try:
            relevant["split"] = hashlib.blake2b(Path(config["split"]).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(
                f"split={config['split']}: cannot be read ({error.strerror}); give a split.json or a text list"
            ) from None
    text = json.dumps(normalize(relevant), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def storage_keys(dataset: dict) -> set[str]:
    """The keys of a data set that say where its images are and how they are kept, not which images they are."""
    return {"storage", "data_dir", "root", location_key(dataset)}


def without_locations(config: dict) -> dict:
    """The configuration without the keys that say where files are and how the run is watched, whatever it holds."""
    kept = {key: value for key, value in config.items() if key not in WATCHING}
    if isinstance(dataset := config.get("dataset"), dict):
        kept["dataset"] = {key: value for key, value in dataset.items() if key not in PLACES}
    return kept


def location_key(dataset: dict) -> str:
    """The key of a data set that says where its images are. Their content counts, not their location."""
    return LOCATIONS.get(dataset.get("_target_", ""), "root")


def images_digest(dataset: dict) -> str | None:
    """The digest of the images at the location that a data set names (such as its `root`), None for any other.

    The module of the data set's `_target_` may define `fingerprint(root=…, data_dir=…)`. A process computes it once.
    """
    key = location_key(dataset)
    if key not in dataset:
        return None
    check_targets(dataset, "dataset")
    module = importlib.import_module(dataset["_target_"].rpartition(".")[0])
    if not hasattr(module, "fingerprint"):
        return None
    return _fingerprint(module.fingerprint, key, dataset[key], dataset["data_dir"])


@functools.cache
def _fingerprint(function, key: str, location: str, data_dir: str) -> str:
    return function(**{key: location, "data_dir": data_dir})


def normalize(value: Any, key: str = "") -> Any:
    """The value with whole floats as integers and each `_target_` without its module."""
    if isinstance(value, dict):
        return {name: normalize(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [normalize(inner) for inner in value]
    if key == "_target_" and isinstance(value, str):
        return value.rpartition(".")[2]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flatten(nested: dict, separator: str, prefix: str = "") -> dict:
    """`{"test": {"error": 0.1}}` becomes `{"test/error": 0.1}` with the separator `/`."""
    flat = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, separator, f"{prefix}{name}{separator}")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

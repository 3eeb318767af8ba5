"""Keys that were added after the first results were committed, and what stands for the code as it was before.

What `drop_added` leaves out does not count: not in the digest of a run, so that a run from before is the same run, and
not in a comparison, so that results from before stay comparable with new ones.
"""

from typing import Any

from meanteacher.config.signatures import constructor_parameters

SCENARIO = ("unlabeled", "mismatch", "imbalance", "unlabeled_imbalance")
"""Keys that change the label and image sets where they are not null."""

ADDED_KEYS: dict[str, Any] = {
    "augment.normalize_first": False,
    "dataset.broken": "error",
    "dataset.exclude_duplicates": "none",
    "dataset.resize": "crop",
    "method.alignment.start": "uniform",
    "method.draw_per": "image",
    "method.labeled_view": "weak",
    "method.passes": "together",
    "method.student_view": "weak",
    "method.unlabeled_moves_statistics": True,
    "method.weighting": None,
    "method.weighting.alignment_start": "uniform",
    "model.first_blocks": "preactivated",
    "model.normalization": "data",
    "model.train": "all",
    "optimizer.head_lr_scale": 1.0,
    "optimizer.layer_decay": 1.0,
    "trainer.labeled_sampling": "natural",
    **dict.fromkeys(SCENARIO),
}
"""Each added key with the value that it stands for where it is missing."""

WITHOUT_MEDIUM = [
    "AdaMatch",
    "CCT",
    "FixMatch",
    "FreeMatch",
    "ICT",
    "MeanTeacher",
    "MeanTeacherDual",
    "MixMatch",
    "PiModel",
    "PseudoLabel",
    "ReMixMatch",
    "Supervised",
    "TemporalEnsembling",
    "UDA",
    "VAT",
]

ADDED_VIEWS = {"medium": frozenset(WITHOUT_MEDIUM)}
"""Each added view of the augmentations with the classes of the methods that were there before it and do not use it."""


def drop_added(settings: dict) -> dict:
    """The nested settings of a run without added keys of their earlier value, and without views of other methods.

    Without weights, `model.normalization` does not count.
    """
    method = settings.get("method", {}).get("_target_", "").rpartition(".")[2]
    views = settings.get("augment", {}).get("views", {})
    kept = {name: view for name, view in views.items() if method not in ADDED_VIEWS.get(name, ())}
    if len(kept) < len(views):
        settings = settings | {"augment": settings["augment"] | {"views": kept}}
    if "weights" in (model := settings.get("model", {})) and model["weights"] is None:
        settings = settings | {"model": {key: value for key, value in model.items() if key != "normalization"}}
    return _drop_keys(settings, "")


def add_missing(settings: dict, prefix: str = "") -> dict:
    """The nested settings of a stored run with the added keys that its classes take by now, of their earlier values.

    prefix: the path of these settings, which ends in a dot.
    """
    module, _, name = settings.get("_target_", "").rpartition(".")
    parameters = constructor_parameters(module, name) or {} if module else {}
    paths = {key: f"{prefix}{key}" for key in parameters if key not in settings}
    nested = {
        key: add_missing(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in settings.items()
    }
    return {key: ADDED_KEYS[path] for key, path in paths.items() if path in ADDED_KEYS} | nested


def _drop_keys(settings: dict, prefix: str) -> dict:
    kept = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if path not in ADDED_KEYS or value != ADDED_KEYS[path]:
            kept[name] = _drop_keys(value, f"{path}.") if isinstance(value, dict) else value
    return kept

"""Keys that were added after the first results were committed, and what stands for the code as it was before.

What `drop_added` leaves out does not count: not in the digest of a run, so that a run from before is the same run, and
not in a comparison, so that results from before stay comparable with new ones.
"""

from typing import Any

ADDED_KEYS: dict[str, Any] = {
    "augment.normalize_first": False,
    "method.alignment.start": "uniform",
    "method.draw_per": "image",
    "method.passes": "together",
    "method.unlabeled_moves_statistics": True,
    "method.weighting.alignment_start": "uniform",
    "model.first_blocks": "preactivated",
}
"""Each added key with the value that it stands for where it is missing."""

ADDED_VIEWS = {"medium": "SequenceMatch"}
"""Each added view of the augmentations with the only method of this package that uses it."""


def drop_added(settings: dict) -> dict:
    """The nested settings of a run without added keys of their earlier value, and without views of other methods."""
    target = settings.get("method", {}).get("_target_", "")
    views = settings.get("augment", {}).get("views", {})
    kept = {name: view for name, view in views.items() if not target or uses(target, name)}
    if len(kept) < len(views):
        settings = settings | {"augment": settings["augment"] | {"views": kept}}
    return _drop_keys(settings, "")


def uses(target: str, view: str) -> bool:
    """Whether a method may use a view. target: the method's class; one from outside this package may use any view."""
    own = target.startswith("meanteacher.")
    return not (own and view in ADDED_VIEWS and target.rpartition(".")[2] != ADDED_VIEWS[view])


def _drop_keys(settings: dict, prefix: str) -> dict:
    kept = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if path not in ADDED_KEYS or value != ADDED_KEYS[path]:
            kept[name] = _drop_keys(value, f"{path}.") if isinstance(value, dict) else value
    return kept

"""Keys that were added after the first results were committed, with the value that stands for what the code did before.

A key with this value does not count: not in the digest of a run, so that a run from before is the same run, and not in
a comparison, so that results from before stay comparable with new ones.
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


def drop_added(settings: dict, prefix: str = "") -> dict:
    """The nested settings without the added keys that have their earlier value."""
    kept = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if path in ADDED_KEYS and value == ADDED_KEYS[path]:
            continue
        kept[name] = drop_added(value, f"{path}.") if isinstance(value, dict) else value
    return kept

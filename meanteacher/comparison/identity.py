"""What two runs must share to be compared (their protocol), and what makes them runs of the same variant of a method.

Where a class lives does not count: of a `_target_` only the last component is compared.
"""

from collections.abc import Sequence

from meanteacher.comparison.settings import key
from meanteacher.config.added_keys import ADDED_VIEWS, SCENARIO, drop_added
from meanteacher.config.digest import flatten, storage_keys
from meanteacher.runs.result import Result, deployed_network

RUN_KEYS = ("steps", "eval_every", "validation", *SCENARIO)
BATCHES = ("labeled_batch", "unlabeled_batch")


def protocol_fields(result: Result) -> dict:
    """All that must be equal between runs that are compared, by dotted key.

    Where the images are stored does not matter; the content of a folder is in `data.fingerprint`.
    """
    settings = result.settings or {}
    fields = {f"data.{name}": value for name, value in (result.data or {}).items() if name != "name"}
    fields |= settings_of(settings, ("dataset", "model", "augment", "schedule"))
    hidden = {f"dataset.{name}" for name in storage_keys(settings.get("dataset", {}))}
    fields = {name: value for name, value in fields.items() if not (name in hidden or of_own_view(name))}
    fields |= {name: settings.get(name) for name in RUN_KEYS}
    if fields.get("schedule.steps") == fields["steps"]:
        fields.pop("schedule.steps", None)
    trainer = settings.get("trainer", {})
    fields |= {f"trainer.{name}": trainer.get(name) for name in BATCHES}
    return {"dataset.name": "unknown"} | fields | {"precision": result.precision or trainer.get("precision")}


def planned_fields(fields: dict) -> dict:
    """The protocol fields that are known before a run has loaded its data and chosen its precision."""
    return {name: value for name, value in fields.items() if not name.startswith("data.") and name != "precision"}


def variant_fields(result: Result) -> dict:
    """All that a method may choose for itself: its own settings, the optimizer's, those of the averaged weights, those
    of the views that it alone uses, and how the labeled images are drawn."""
    settings = result.settings or {}
    views = {name: value for name, value in settings_of(settings, ("augment",)).items() if of_own_view(name)}
    trainer = settings_of(settings, ("trainer",))
    own = {k: v for k, v in trainer.items() if k.startswith("trainer.average_") or k == "trainer.labeled_sampling"}
    return settings_of(settings, ("method", "optimizer")) | own | views


def of_own_view(name: str) -> bool:
    """Whether a dotted key is of a view of `ADDED_VIEWS`."""
    return name.startswith(tuple(f"augment.views.{view}." for view in ADDED_VIEWS))


def settings_of(settings: dict, groups: tuple[str, ...]) -> dict:
    """The settings of some config groups by dotted key, independent of where classes live and how they are built."""
    kept = drop_added(settings)
    flattened = flatten({name: kept.get(name, {}) for name in groups}, ".")
    return {
        name: value.rpartition(".")[2] if name.endswith("._target_") else value
        for name, value in flattened.items()
        if not name.endswith("._partial_")
    }


def deployed_networks(results: Sequence[Result]) -> list[str]:
    """For each measured result, the network by which it is judged among these results. See `deployed_network`."""
    variants: dict[str, list[Result]] = {}
    names = [key([key(protocol_fields(r)), r.method, key(variant_fields(r))]) for r in results]
    for name, result in zip(names, results, strict=True):
        variants.setdefault(name, []).append(result)
    deployed = {name: deployed_network(members) for name, members in variants.items()}
    return [deployed[name] for name in names]

"""Which runs may be compared: those of one protocol. Within it, a variant is a method with its own settings."""

import json
from dataclasses import dataclass

from meanteacher.comparison.results import Run
from meanteacher.config.digest import flatten

ELSEWHERE = {"dataset.data_dir", "dataset.root", "dataset.storage"}
"""Where the images lie, not which they are; a folder's content is in `data.fingerprint`."""
RUN_KEYS = ("steps", "eval_every", "validation")
BATCHES = ("labeled_batch", "unlabeled_batch")
BASELINE = "supervised"


@dataclass(frozen=True)
class Variant:
    """A method as it was run. values: the settings that tell it from the method's other variants, by their shown name."""

    name: str
    method: str
    values: dict


@dataclass(frozen=True)
class Protocol:
    """What must be equal for a fair comparison. letter: A, B, …; fields: dotted key to value.

    differs: what tells it from the other protocols, empty where it is alone; shared: what it has in common with them, for
    a person; decimals: of a percentage, by the number of test images.
    """

    letter: str
    fields: dict
    differs: str
    shared: str
    variants: dict[str, Variant]

    @property
    def dataset(self) -> str:
        return self.fields["dataset.name"]

    @property
    def decimals(self) -> int:
        return 2 if self.fields.get("data.test", 0) >= 2000 else 1


def group(runs: list[Run]) -> tuple[list[Protocol], list[tuple[str, str]]]:
    """The protocols of the finished runs, and for each run its protocol's letter and its variant ("" where unknown).

    Protocols are ordered by their number of finished runs, the largest first.
    """
    fields = [protocol_fields(run.result) if "settings" in run.result else None for run in runs]
    members: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        if run.status == "finished":
            members.setdefault(key(fields[place]), []).append(place)
    ordered = sorted(members.values(), key=len, reverse=True)
    firsts = [fields[places[0]] for places in ordered]
    shown = contrast(firsts, [runs[places[0]].result["names"] for places in ordered])
    different = {name for item in shown for name in item}
    belongs = [belonging(found, firsts) for found in fields]
    protocols, places_of = [], [("", "")] * len(runs)
    for number, (first, item) in enumerate(zip(firsts, shown, strict=True)):
        inside = [place for place, found in enumerate(belongs) if found == number]
        variants, names = name_variants([runs[place].result for place in inside])
        differs = ", ".join(f"{name}={value}" for name, value in item.items())
        protocols.append(Protocol(letters(number), first, differs, describe(first, different), variants))
        for place, name in zip(inside, names, strict=True):
            places_of[place] = (letters(number), name)
    return protocols, places_of


def letters(number: int) -> str:
    """A to Z, then AA, AB, …"""
    return (letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def protocol_fields(result: dict) -> dict:
    """All that must be equal between runs that are compared."""
    settings = result["settings"]
    found = {f"data.{name}": value for name, value in (result.get("data") or {}).items() if name != "name"}
    found |= flatten({name: settings.get(name, {}) for name in ("dataset", "model", "augment", "schedule")}, ".")
    found = {name: value for name, value in found.items() if name not in ELSEWHERE}
    found |= {name: settings.get(name) for name in RUN_KEYS}
    if found.get("schedule.steps") == found["steps"]:
        del found["schedule.steps"]
    trainer = settings.get("trainer", {})
    found |= {f"trainer.{name}": trainer.get(name) for name in BATCHES}
    return {"dataset.name": "unknown"} | found | {"precision": result.get("precision") or trainer.get("precision")}


def belonging(found: dict | None, firsts: list[dict]) -> int | None:
    """Which protocol a run belongs to. One that failed early knows neither its data nor its precision: it goes by the rest."""
    if found is None:
        return None
    for number, first in enumerate(firsts):
        if key(first) == key(found):
            return number
    known = [number for number, first in enumerate(firsts) if key(planned(first)) == key(planned(found))]
    early = not any(name.startswith("data.") for name in found)
    return known[0] if early and len(known) == 1 else None


def planned(fields: dict) -> dict:
    return {name: value for name, value in fields.items() if not name.startswith("data.") and name != "precision"}


def name_variants(results: list[dict]) -> tuple[dict[str, Variant], list[str]]:
    """The variants, the baseline first, then by method and value; and the name of each result's."""
    settings = [variant_fields(result) for result in results]
    methods = [result["names"].get("method") or "unknown" for result in results]
    named: dict[tuple[str, str], Variant] = {}
    for method in set(methods):
        first = {key(s): place for place, (m, s) in enumerate(zip(methods, settings, strict=True)) if m == method}
        places = list(first.values())
        shown = contrast([settings[p] for p in places], [results[p]["names"] for p in places])
        for place, item in zip(places, shown, strict=True):
            short = shortened(list(item))
            name = " ".join([method, *(f"{short[k]}={value}" for k, value in item.items())])
            values = {short[k]: settings[place].get(k, value) for k, value in item.items()}
            named[method, key(settings[place])] = Variant(name, method, values)
    ordered = sorted(named.values(), key=lambda v: (v.method != BASELINE, v.method, *map(order, v.values.values())))
    names = [named[m, key(s)].name for m, s in zip(methods, settings, strict=True)]
    return {variant.name: variant for variant in ordered}, names


def variant_fields(result: dict) -> dict:
    """All that a method may have for itself: its own settings, the optimizer's, the averaged weights'."""
    settings = result["settings"]
    own = flatten({name: settings.get(name, {}) for name in ("method", "optimizer")}, ".")
    average = {f"trainer.{k}": v for k, v in settings.get("trainer", {}).items() if k.startswith("average_")}
    return own | average


def shortened(names: list[str]) -> dict[str, str]:
    """Dotted keys without their group where that is unambiguous."""
    bare = {name: name.partition(".")[2] or name for name in names}
    return {name: short if list(bare.values()).count(short) == 1 else name for name, short in bare.items()}


def contrast(items: list[dict], names: list[dict]) -> list[dict[str, str]]:
    """For each configuration the keys that are not the same in all, with its values as text.

    names: per configuration, which option of each config group it came from. Keys that only some have are named by that
    option (optimizer=adam) where it says as much.
    """
    shown: list[dict[str, str]] = [{} for _ in items]
    for name in dict.fromkeys(name for item in items for name in item):
        values = [key(item[name]) if name in item else None for item in items]
        if len(set(values)) < 2:
            continue
        prefix = name.partition(".")[0]
        option = "dataset" if prefix == "data" else prefix
        chosen = [found.get(option) for found in names]
        partial = None in values or name.endswith("_target_") or option == "dataset"
        told = len(set(chosen)) > 1 and len(set(zip(chosen, values, strict=True))) == len(set(chosen))
        for item, its, choice in zip(items, shown, chosen, strict=True):
            its |= {option: show(choice)} if partial and told else {name: show(item.get(name, "none"))}
    return shown


def key(value) -> str:
    """Equal for equal values; 100 and 100.0 are."""
    if isinstance(value, dict):
        return json.dumps({name: key(value[name]) for name in sorted(value)})
    return json.dumps(float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value)


def show(value) -> str:
    """A setting as it would be written on the command line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def order(value) -> tuple:
    """Numbers by size, before words."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value, "") if number else (1, 0, str(value))


def describe(fields: dict, different: set[str]) -> str:
    """Data, network, steps and batch in one line, without what differs between protocols."""
    network = "-".join(
        [str(fields.get("model._target_", "unknown network")).rpartition(".")[2]]
        + [show(fields[f"model.{name}"]) for name in ("depth", "width") if f"model.{name}" in fields]
    )
    counts = [f"{fields[f'data.{n}']} {w}" for n, w in COUNTS.items() if f"data.{n}" in fields]
    data = fields["dataset.name"] + (f" ({', '.join(counts)})" if counts else "")
    labeled, unlabeled = (fields[f"trainer.{name}"] for name in BATCHES)
    phrases = {
        data: ("dataset", "data."),
        network: ("model",),
        f"{fields['steps']} steps": ("steps",),
        f"{labeled} labeled + {unlabeled} unlabeled images a step": ("trainer.",),
        f"evaluated every {fields['eval_every']} steps": ("eval_every",),
        f"{fields['validation']} validation images": ("validation",) if fields["validation"] else ("",),
        f"{fields['precision']}": ("precision",),
    }
    kept = [text for text, about in phrases.items() if not any(name.startswith(about) for name in different | {"-"})]
    return ", ".join(kept)


COUNTS = {"train": "training images", "test": "test images", "classes": "classes"}

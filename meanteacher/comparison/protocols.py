"""Groups runs into protocols: only runs of one protocol are compared. A variant is a method with its own settings."""

from dataclasses import dataclass
from typing import NamedTuple

from meanteacher.comparison.axes import LABEL, Point, place_on_axes, point_text
from meanteacher.comparison.identity import BATCHES, planned_fields, protocol_fields, variant_fields
from meanteacher.comparison.results import Run
from meanteacher.comparison.settings import contrast, key, order, shorten, show
from meanteacher.config.added_keys import SCENARIO
from meanteacher.runs.result import BASELINE, Result

COUNTS = {"train": "training images", "test": "test images", "classes": "classes"}


@dataclass(frozen=True)
class Variant:
    """A method with certain settings.

    values: the settings that tell it from the method's other variants, by short name.
    """

    name: str
    method: str
    values: dict


@dataclass(frozen=True)
class Protocol:
    """What must be equal for a fair comparison.

    letter: A, B, …
    fields: the values that its runs share, by dotted key.
    differs: the settings that tell it from the other protocols; empty where it is the only protocol.
    shared: what all protocols share, as a description.
    variants: the variants that were run, by name; the baseline first.
    axis: what its runs vary beside method and seed; see `place_on_axes`.
    """

    letter: str
    fields: dict
    differs: str
    shared: str
    variants: dict[str, Variant]
    axis: str

    @property
    def dataset(self) -> str:
        return self.fields["dataset.name"]

    @property
    def decimals(self) -> int:
        """Decimals of a percentage, by the number of test images."""
        return 2 if self.fields.get("data.test", 0) >= 2000 else 1


class Place(NamedTuple):
    """Where a run lies in a comparison: its protocol's letter and its variant, "" where unknown, and its point."""

    protocol: str
    variant: str
    point: Point | None


def group_runs(runs: list[Run]) -> tuple[list[Protocol], list[Place]]:
    """The protocols of the finished runs, and the place of each run.

    Protocols are ordered by their number of finished runs, the largest first.
    """
    usable = [number for number, run in enumerate(runs) if run.result and run.result.settings]
    results = [runs[number].result for number in usable]
    finished = [runs[number].finished for number in usable]
    placed = place_on_axes([protocol_fields(r) for r in results], [r.label for r in results], finished)
    on_axis = dict(zip(usable, placed, strict=True))
    fields = [on_axis[number].fields if number in on_axis else None for number in range(len(runs))]
    members: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        if run.finished:
            members.setdefault(key(fields[number]), []).append(number)
    examples = [numbers[0] for numbers in sorted(members.values(), key=len, reverse=True)]
    firsts = [fields[number] for number in examples]
    differences = contrast(firsts, [runs[number].result.choices for number in examples])
    different = {name for difference in differences for name in difference}
    protocol_of = [matching_protocol(run_fields, firsts) for run_fields in fields]
    points = [on_axis[n].point if n in on_axis else run.result and run.result.label for n, run in enumerate(runs)]
    protocols, places = [], [Place("", "", point) for point in points]
    for index, (first, difference) in enumerate(zip(firsts, differences, strict=True)):
        inside = [number for number, matched in enumerate(protocol_of) if matched == index]
        variants, names = name_variants([runs[number].result for number in inside])
        differs = ", ".join(f"{name}={value}" for name, value in difference.items())
        axis = on_axis[examples[index]].axis
        protocols.append(Protocol(letters(index), first, differs, describe(first, different), variants, axis))
        for number, name in zip(inside, names, strict=True):
            places[number] = Place(letters(index), name, points[number])
    return protocols, places


def letters(number: int) -> str:
    """A to Z, then AA, AB, …"""
    return (letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def matching_protocol(fields: dict | None, protocols: list[dict]) -> int | None:
    """The position of the protocol that a run belongs to.

    A run that failed early knows neither its data nor its precision. It is matched by its other fields.
    """
    if fields is None:
        return None
    for number, protocol in enumerate(protocols):
        if key(protocol) == key(fields):
            return number
    planned = key(planned_fields(fields))
    matches = [number for number, protocol in enumerate(protocols) if key(planned_fields(protocol)) == planned]
    failed_early = not any(name.startswith("data.") for name in fields)
    return matches[0] if failed_early and len(matches) == 1 else None


def name_variants(results: list[Result]) -> tuple[dict[str, Variant], list[str]]:
    """The variants by name, the baseline first, then by method and value; and the variant's name for each result."""
    settings = [variant_fields(result) for result in results]
    methods = [result.method or "unknown" for result in results]
    variants: dict[tuple[str, str], Variant] = {}
    for method in set(methods):
        by_key = {key(s): number for number, (m, s) in enumerate(zip(methods, settings, strict=True)) if m == method}
        examples = list(by_key.values())
        differences = contrast([settings[n] for n in examples], [results[n].choices for n in examples])
        for number, difference in zip(examples, differences, strict=True):
            short = shorten(list(difference))
            name = " ".join([method, *(f"{short[k]}={value}" for k, value in difference.items())])
            values = {short[k]: settings[number].get(k, value) for k, value in difference.items()}
            variants[method, key(settings[number])] = Variant(name, method, values)
    ordered = sorted(variants.values(), key=lambda v: (v.method != BASELINE, v.method, *map(order, v.values.values())))
    names = [variants[m, key(s)].name for m, s in zip(methods, settings, strict=True)]
    return {variant.name: variant for variant in ordered}, names


def describe(fields: dict, different: set[str]) -> str:
    """Data, network, steps and batch sizes in one line, without what differs between protocols."""
    network = "-".join(
        [fields.get("model._target_", "unknown network")]
        + [show(fields[f"model.{name}"]) for name in ("depth", "width") if f"model.{name}" in fields]
    )
    counts = [f"{fields[f'data.{n}']} {words}" for n, words in COUNTS.items() if f"data.{n}" in fields]
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
    constant = {name: fields.get(name) for name in (LABEL, *SCENARIO)}
    phrases |= {point_text(name, value): (name,) for name, value in constant.items() if value is not None}
    kept = [text for text, about in phrases.items() if not any(name.startswith(about) for name in different | {"-"})]
    return ", ".join(kept)


def protocol_lines(protocols: list[Protocol]) -> list[str]:
    """The definition of each protocol, and what all of them share."""
    if len(protocols) < 2:
        return [f"Protocol: {protocol.shared}." for protocol in protocols]
    definitions = "; ".join(f"{protocol.letter}: {protocol.differs}" for protocol in protocols)
    shared = protocols[0].shared or "nothing else"
    return [f"Protocols, never mixed in a number: {definitions}.", f"Shared by all: {shared}."]


def transfer_sentence(protocol: Protocol, protocols: list[Protocol]) -> str:
    """Whether the data set of a protocol has a transfer baseline: runs that start from the weights of a file."""
    if protocol.fields.get("model.weights"):
        probe = protocol.fields.get("model.train") == "probe"
        how = "a linear probe on frozen features" if probe else "fine-tuning of all layers"
        return f"These are transfer baselines: {how}, from weights in a file."
    others = [p for p in protocols if p.dataset == protocol.dataset and p.fields.get("model.weights")]
    if not others:
        return "No transfer baseline: no run on this data set starts from the weights of a file (model.weights)."
    return f"Transfer baseline: protocol {', '.join(other.letter for other in others)}."

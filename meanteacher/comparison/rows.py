"""The table that all numbers are computed from: a row per run and network, with what counts and what is deployed."""

import json

import pandas as pd

from meanteacher.comparison.results import Run
from meanteacher.comparison.settings import show
from meanteacher.runs.result import BASELINE, Scores, deployed_network

SCORES = ("error_last", "error_median_last_20", "error_best_on_test", "ece")
MEASURES = ("images_per_second", "training_seconds", "peak_memory_bytes")
PSEUDO_LABELS = ("precision", "coverage", "weighted_coverage", "balance")
"""Scores of the pseudo-labels; the columns are `pseudo_label_<name>`."""

IDENTITY = ["protocol", "variant", "label", "seed", "split_seed", "split_digest"]


def run_rows(runs: list[Run], places: list[tuple[str, str]]) -> pd.DataFrame:
    """A row per run and network; a row with an empty network for a run without scores.

    places: each run's protocol and variant.
    Columns: `run` is the position of the run in `runs`; `counted` says whether the row is in any mean; `deployed` marks
    the last network of each run (see `mark_deployed`).
    """
    rows = []
    for number, (run, (protocol, variant)) in enumerate(zip(runs, places, strict=True)):
        models = (run.result.models if run.result else None) or {}
        about = {"run": number, "status": run.status, "counted": run.finished and bool(models)}
        about |= {"protocol": protocol, "variant": variant} | facts(run) | {"folder": str(run.folder)}
        last = next(reversed(models), None)
        for network, scores in models.items() or [("", None)]:
            rows.append(about | {"network": network, "deployed": network == last} | score_columns(scores))
    table = pd.DataFrame(rows)
    numbers = (*SCORES, *MEASURES, *(f"pseudo_label_{name}" for name in PSEUDO_LABELS))
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def facts(run: Run) -> dict:
    """The columns of a run that are copied from its result."""
    result = run.result
    names = ("label", "seed", "split_seed", "split_digest", *MEASURES, "digest", "source", "commit", "hardware")
    pseudo_labels = (result.pseudo_labels if result else None) or {}
    scores = {f"pseudo_label_{name}": pseudo_labels.get(name) for name in PSEUDO_LABELS}
    if result is None:
        return {"method": "", "dataset": "", **dict.fromkeys(names), **scores}
    dataset = (result.settings or {}).get("dataset", {}).get("name") or result.choices.get("dataset") or ""
    known = {name: getattr(result, name) for name in names}
    return {"method": result.method or "", "dataset": dataset, **known, **scores}


def score_columns(scores: Scores | None) -> dict:
    return {name: getattr(scores, name, None) for name in SCORES}


def mark_repeats(table: pd.DataFrame, runs: list[Run]) -> tuple[pd.DataFrame, list[int], int]:
    """The table with repeats not counted, the numbers of contradicting runs, and the number of exact copies.

    Repeats share variant, labels, seed and labeled images. Of repeats with the same scores, one is counted. Of repeats
    with different scores, none is counted, since nothing says which is right.
    """
    counted, repeated, copies = table["counted"].copy(), [], 0
    for _, rows in table[table["counted"]].groupby(IDENTITY, dropna=False, sort=False):
        numbers = list(dict.fromkeys(rows["run"]))
        if len(numbers) == 1:
            continue
        scores = {json.dumps(runs[number].result.model_dump()["models"], sort_keys=True) for number in numbers}
        agree = len(scores) == 1
        left_out = numbers[1:] if agree else numbers
        counted[table["run"].isin(left_out)] = False
        copies += len(left_out) if agree else 0
        repeated += [] if agree else left_out
    return table.assign(counted=counted), repeated, copies


def mark_deployed(table: pd.DataFrame, runs: list[Run]) -> pd.DataFrame:
    """The table with `deployed` at the network that the baseline is judged by over all label counts of a protocol."""
    deployed = table["deployed"].copy()
    baseline = table[table["counted"] & (table["method"] == BASELINE)]
    for (letter, variant), rows in baseline.groupby(["protocol", "variant"], sort=False):
        network = deployed_network([runs[number].result for number in rows["run"].unique()])
        same = (table["protocol"] == letter) & (table["variant"] == variant)
        deployed[same] = table["network"][same] == network
    return table.assign(deployed=deployed)


def label_order(label: int | str) -> float:
    """Sort key of a label count; `all` is last."""
    return float("inf") if label == "all" else float(label)


def labels_of(table: pd.DataFrame) -> list[int | str]:
    """The label counts of a table, sorted."""
    return sorted(set(table["label"]), key=label_order)


def label_text(label: int | str | None) -> str:
    """`20 labels`, `all labels`, or nothing where the count is unknown."""
    if label is None:
        return ""
    return "all labels" if label == "all" else f"{show(label)} label{'' if label == 1 else 's'}"

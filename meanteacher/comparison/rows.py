"""The table that all numbers are computed from: a row per run and network, with what counts and what is deployed."""

import json

import pandas as pd

from meanteacher.comparison.axes import OF_UNLABELED_IMAGES, Point, point_order
from meanteacher.comparison.protocols import Place, Protocol
from meanteacher.comparison.results import Run
from meanteacher.config.added_keys import SCENARIO
from meanteacher.runs.result import BASELINE, Scores, deployed_network

SCORES = ("error_last", "error_median_last_20", "error_best_on_test", "ece")
CLASS_SCORES = ("balanced_accuracy", "auroc_unknown")
"""Scores that only runs with a realistic option have."""
MEASURES = ("images_per_second", "training_seconds", "peak_memory_bytes")
PSEUDO_LABELS = ("precision", "coverage", "weighted_coverage", "balance")
"""Scores of the pseudo-labels; the columns are `pseudo_label_<name>`."""

IDENTITY = ["protocol", "variant", "label", "point", "seed", "split_seed", "split_digest"]


def run_rows(runs: list[Run], places: list[Place]) -> pd.DataFrame:
    """A row per run and network; a row with an empty network for a run without scores.

    places: each run's protocol, variant and point on the axis of the protocol.
    Columns: `run` is the position of the run in `runs`; `counted` says whether the row is in any mean; `deployed` marks
    the last network of each run (see `mark_deployed`).
    """
    rows = []
    for number, (run, place) in enumerate(zip(runs, places, strict=True)):
        models = (run.result.models if run.result else None) or {}
        about = {"run": number, "status": run.status, "counted": run.finished and bool(models)}
        about |= place._asdict() | facts(run) | {"folder": str(run.folder)}
        last = next(reversed(models), None)
        for network, scores in models.items() or [("", None)]:
            rows.append(about | {"network": network, "deployed": network == last} | score_columns(scores))
    table = pd.DataFrame(rows)
    numbers = (*SCORES, *CLASS_SCORES, *MEASURES, *(f"pseudo_label_{name}" for name in PSEUDO_LABELS))
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def facts(run: Run) -> dict:
    """The columns of a run that are copied from its result."""
    result = run.result
    names = ("label", "seed", "split_seed", "split_digest", *MEASURES, "digest", "source", "commit", "hardware")
    pseudo_labels = (result.pseudo_labels if result else None) or {}
    scores = {f"pseudo_label_{name}": pseudo_labels.get(name) for name in PSEUDO_LABELS}
    if result is None:
        return {"method": "", "dataset": "", **dict.fromkeys((*SCENARIO, *names)), **scores}
    settings = result.settings or {}
    dataset = settings.get("dataset", {}).get("name") or result.choices.get("dataset") or ""
    about = {"method": result.method or "", "dataset": dataset} | {name: settings.get(name) for name in SCENARIO}
    return about | {name: getattr(result, name) for name in names} | scores


def score_columns(scores: Scores | None) -> dict:
    return {name: getattr(scores, name, None) for name in (*SCORES, *CLASS_SCORES)}


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


def repeat_baseline(table: pd.DataFrame, protocols: list[Protocol]) -> pd.DataFrame:
    """The table with a baseline's runs repeated at the points that they lack, on axes of the unlabeled images.

    The baseline uses no unlabeled images, so that a run at any point is its run at every point of that axis.
    """
    repeated = [table]
    for protocol in protocols:
        if protocol.axis not in OF_UNLABELED_IMAGES:
            continue
        rows = table[table["counted"] & (table["protocol"] == protocol.letter)]
        points = points_of(rows)
        for _, runs in rows[rows["method"] == BASELINE].groupby(["variant", "seed", "split_seed"], sort=False):
            first = runs[runs["run"] == runs["run"].iloc[0]]
            repeated += [first.assign(point=point) for point in points if point not in set(runs["point"])]
    return pd.concat(repeated, ignore_index=True) if len(repeated) > 1 else table


def points_of(table: pd.DataFrame) -> list[Point]:
    """The points of a table of one protocol, sorted."""
    return sorted(set(table["point"]), key=point_order)


def labels_of(table: pd.DataFrame) -> list[int | str]:
    """The label counts of a table of published errors, sorted."""
    return sorted(set(table["label"]), key=point_order)

"""The numbers of a comparison: means over seeds, paired differences, labels needed, cost. Errors are fractions throughout."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from meanteacher.comparison.protocols import BASELINE, Protocol, show
from meanteacher.comparison.results import Run

SCORES = ("error_last", "error_median_last_20", "error_best_on_test", "ece")
IDENTITY = ["protocol", "variant", "label", "seed", "split_seed", "split_digest"]


@dataclass(frozen=True)
class Pair:
    """A variant against another at one label count, over the runs that share seed and labeled images.

    difference: mean of the other's error minus the variant's, positive where the variant is better; low, high: the 95 %
    interval of that mean, None under two pairs; about: `baseline` or `runner-up`, what the other one is.
    """

    protocol: str
    label: int | str
    variant: str
    against: str
    about: str
    n: int
    difference: float | None
    low: float | None
    high: float | None

    @property
    def judgement(self) -> str:
        if self.n == 0:
            return "not paired"
        if self.low is None:
            return "one seed: noise unknown"
        return "within noise" if self.low <= 0 <= self.high else "clear"


def tidy(runs: list[Run], places: list[tuple[str, str]]) -> pd.DataFrame:
    """One row per run and network; one with an empty network where a run has measured nothing.

    places: each run's protocol and variant. `counted` says whether the row is in any mean; `run` is the run's position.
    """
    rows = []
    for number, (run, (protocol, variant)) in enumerate(zip(runs, places, strict=True)):
        result, settings = run.result, run.result.get("settings", {})
        names, measured = result.get("names", {}), result.get("models") or {}
        shared = {
            "run": number,
            "status": run.status,
            "counted": run.status == "finished" and bool(measured),
            "protocol": protocol,
            "variant": variant,
            "method": names.get("method") or "",
            "dataset": settings.get("dataset", {}).get("name") or names.get("dataset") or "",
            **{name: result.get(name) for name in ("label", "seed", "split_seed", "split_digest")},
            **{name: result.get(name) for name in ("images_per_second", "training_seconds", "peak_memory_bytes")},
            **{name: result.get(name) for name in ("digest", "source", "commit", "hardware")},
            "folder": str(run.folder),
        }
        for network in measured or [""]:
            scores = {name: measured.get(network, {}).get(name) for name in SCORES}
            deployed = bool(network) and network == list(measured)[-1]
            rows.append(shared | {"network": network, "deployed": deployed} | scores)
    table = pd.DataFrame(rows)
    numeric = [*SCORES, "images_per_second", "training_seconds", "peak_memory_bytes"]
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numeric})


def leave_out_repeats(table: pd.DataFrame, runs: list[Run]) -> tuple[pd.DataFrame, list[int], int]:
    """The table without repeats counted, the runs that are in no mean for it, and how many exact copies there were.

    Repeats share variant, labels, seed and labeled images. With the same numbers one of them is counted; with other
    numbers none is, since nothing says which is right.
    """
    counted, repeated, copies = table["counted"].copy(), [], 0
    for _, same in table[table["counted"]].groupby(IDENTITY, dropna=False, sort=False):
        numbers = list(dict.fromkeys(same["run"]))
        measured = {json.dumps(runs[number].result["models"], sort_keys=True) for number in numbers}
        if len(numbers) == 1:
            continue
        agree = len(measured) == 1
        out = numbers[1:] if agree else numbers
        counted[table["run"].isin(out)] = False
        copies += len(out) if agree else 0
        repeated += [] if agree else out
    return table.assign(counted=counted), repeated, copies


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `deployed` at that network of the baseline that has the smaller mean error over all of a protocol.

    Its average of weights is an addition for evaluation, not its product: the choice makes it the harder one to beat.
    """
    deployed = table["deployed"].copy()
    baseline = table[table["counted"] & (table["method"] == BASELINE)]
    for (letter, variant), its in baseline.groupby(["protocol", "variant"], sort=False):
        best = its.groupby("network", sort=False)["error_last"].mean().idxmin()
        here = (table["protocol"] == letter) & (table["variant"] == variant)
        deployed[here] = table["network"][here] == best
    return table.assign(deployed=deployed)


def summary(table: pd.DataFrame, protocols: list[Protocol]) -> pd.DataFrame:
    """Per protocol, variant, network and label count: n, and mean and standard deviation (n − 1) of each score.

    A deviation of one seed, and a median where there were fewer than 20 evaluations, are missing (NaN).
    """
    keys = ["protocol", "variant", "method", "network", "deployed", "label"]
    counted = table[table["counted"]]
    found = counted.groupby(keys, sort=False, as_index=False).agg(
        n=("error_last", "count"),
        error_last=("error_last", "mean"),
        error_last_std=("error_last", "std"),
        error_median_last_20=("error_median_last_20", "mean"),
        error_median_last_20_std=("error_median_last_20", "std"),
        ece=("ece", "mean"),
        ece_std=("ece", "std"),
    )
    ranks = {
        (p.letter, name): (number, place) for number, p in enumerate(protocols) for place, name in enumerate(p.variants)
    }
    rank = [(*ranks[row.protocol, row.variant], label_order(row.label), row.deployed) for row in found.itertuples()]
    return found.iloc[sorted(range(len(found)), key=rank.__getitem__)].reset_index(drop=True)


def label_order(label: int | str) -> float:
    """Where a label count stands on a scale; `all` is last."""
    return float("inf") if label == "all" else float(label)


def labels_of(found: pd.DataFrame) -> list[int | str]:
    return sorted(set(found["label"]), key=label_order)


def ranking(found: pd.DataFrame, label: int | str) -> pd.DataFrame:
    """The deployed networks at one label count, the smallest mean error first. found: one protocol's summary."""
    here = found[found["deployed"] & (found["label"] == label)]
    return here.sort_values("error_last", kind="stable")


def pairs(table: pd.DataFrame, found: pd.DataFrame, letter: str) -> list[Pair]:
    """Each variant against the baseline (the better one at that label count where there are several), and winner against
    runner-up, per label count of one protocol."""
    counted = table[table["counted"] & table["deployed"] & (table["protocol"] == letter)]
    here, made = found[found["protocol"] == letter], []
    for label in labels_of(here):
        ranked = ranking(here, label)
        baseline = ranked.loc[ranked["method"] == BASELINE, "variant"].head(1).tolist()
        others = ranked.loc[ranked["method"] != BASELINE, "variant"]
        wanted = [(name, base, "baseline") for base in baseline for name in others]
        first, second = [*ranked["variant"], None, None][:2]
        if second and (first, second, "baseline") not in wanted:
            wanted.append((first, second, "runner-up"))
        runs = counted[counted["label"] == label]
        made += [
            Pair(letter, label, name, other, about, *paired(errors(runs, name), errors(runs, other)))
            for name, other, about in wanted
        ]
    return made


def errors(runs: pd.DataFrame, variant: str) -> dict[tuple, float]:
    """Last error by seed, split seed and digest of the labeled images; runs without a digest can't be paired."""
    its = runs[(runs["variant"] == variant) & runs["split_digest"].notna()]
    return dict(
        zip(zip(its["seed"], its["split_seed"], its["split_digest"], strict=True), its["error_last"], strict=True)
    )


def paired(
    first: dict[tuple, float], second: dict[tuple, float]
) -> tuple[int, float | None, float | None, float | None]:
    """Number of shared keys, mean of second − first over them, and its 95 % interval by Student's t."""
    from scipy import stats

    shared = sorted(first.keys() & second.keys())
    if not shared:
        return 0, None, None, None
    differences = np.array([second[name] - first[name] for name in shared])
    mean = float(differences.mean())
    if len(shared) == 1:
        return 1, mean, None, None
    half = float(stats.t.ppf(0.975, len(shared) - 1) * differences.std(ddof=1) / np.sqrt(len(shared)))
    return len(shared), mean, mean - half, mean + half


def efficiency(found: pd.DataFrame, letter: str) -> list[dict]:
    """How many labels the baseline needs for each variant's error: `low` and `high` are equal where that lies between its
    label counts, else one of them is None. Empty under two label counts of the baseline; `all` is left out."""
    here = found[(found["protocol"] == letter) & found["deployed"] & (found["label"] != "all")]
    best = here[here["method"] == BASELINE].groupby("label")["error_last"].min()
    curve = sorted((float(label), error) for label, error in best.items())
    if len(curve) < 2:
        return []
    rows = []
    for row in here[here["method"] != BASELINE].itertuples():
        low, high = labels_needed(curve, row.error_last)
        rows.append({"protocol": letter, "variant": row.variant, "label": row.label, "low": low, "high": high})
    return rows


def labels_needed(curve: list[tuple[float, float]], error: float) -> tuple[float | None, float | None]:
    """Bounds of the fewest labels with which the curve comes down to `error`, straight between points over log(labels).

    Both are the same number within the curve; (None, first) before it, (last, None) beyond it.
    """
    if curve[0][1] < error:
        return None, curve[0][0]
    if curve[0][1] == error:
        return curve[0][0], curve[0][0]
    for (left, above), (right, below) in zip(curve, curve[1:], strict=False):
        if above >= error >= below:
            share = (above - error) / (above - below)
            labels = float(np.exp(np.log(left) + share * (np.log(right) - np.log(left))))
            return labels, labels
    return curve[-1][0], None


def cost(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Per protocol, variant and label count: median images a second, mean and total training seconds, greatest peak memory,
    in the order of the summary and beside its calibration error."""
    deployed = table[table["counted"] & table["deployed"]]
    spent = deployed.groupby(["protocol", "variant", "label"], as_index=False).agg(
        images_per_second=("images_per_second", "median"),
        training_seconds=("training_seconds", "mean"),
        training_seconds_in_all=("training_seconds", "sum"),
        peak_memory_bytes=("peak_memory_bytes", "max"),
    )
    kept = found.loc[found["deployed"], ["protocol", "variant", "network", "label", "n", "ece", "ece_std"]]
    return kept.merge(spent, on=["protocol", "variant", "label"], how="left")


def label_text(label: int | str | None) -> str:
    return (
        "" if label is None else "all labels" if label == "all" else f"{show(label)} label{'' if label == 1 else 's'}"
    )

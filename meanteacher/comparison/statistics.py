"""The numbers of a comparison: means over seeds, paired differences, labels needed, cost. Errors are fractions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from meanteacher.comparison.axes import LABEL, Point, point_order
from meanteacher.comparison.protocols import Place, Protocol
from meanteacher.comparison.results import Run
from meanteacher.comparison.rows import SCORES, mark_deployed, mark_repeats, points_of, repeat_baseline, run_rows
from meanteacher.runs.result import BASELINE


@dataclass(frozen=True)
class Pair:
    """A variant against another at one point of its protocol, over the runs that share seed and labeled images.

    about: what `against` is: `baseline` or `runner-up`.
    n: number of pairs of runs.
    difference: mean of the other's error minus the variant's; positive where the variant is better.
    low, high: bounds of the 95 % interval of that mean; None for fewer than two pairs.
    """

    protocol: str
    label: int | str
    point: Point
    variant: str
    against: str
    about: str
    n: int
    difference: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        if self.n == 0:
            return "not paired"
        if self.low is None:
            return "one seed: noise unknown"
        return "within noise" if self.low <= 0 <= self.high else "clear"


@dataclass(frozen=True)
class Statistics:
    """All numbers of a comparison, each computed once.

    table: a row per run and network (`run_rows`), with what is counted and deployed.
    at_points: the same with the baseline at every point that it counts for (`repeat_baseline`).
    summary: a row per protocol, variant, network and point (`summarize`).
    pairs: paired differences; efficiency: labels that the baseline needs; cost: a row per variant and point.
    repeated: numbers of the runs that contradict another run; copies: how many runs are copies of another.
    """

    table: pd.DataFrame
    at_points: pd.DataFrame
    summary: pd.DataFrame
    pairs: list[Pair]
    efficiency: list[dict]
    cost: pd.DataFrame
    repeated: list[int]
    copies: int

    @property
    def counted(self) -> pd.DataFrame:
        """The rows of the table that are in the numbers: those of deployed networks of finished runs."""
        return self.table[self.table["counted"] & self.table["deployed"]]

    def judged_at_points(self, protocol: Protocol) -> pd.DataFrame:
        """The rows of `at_points` that are in the numbers of a protocol: those of deployed networks of its runs."""
        rows = self.at_points
        return rows[rows["counted"] & rows["deployed"] & (rows["protocol"] == protocol.letter)]

    def summary_of(self, protocol: Protocol) -> pd.DataFrame:
        return self.summary[self.summary["protocol"] == protocol.letter]

    def pairs_of(self, protocol: Protocol) -> list[Pair]:
        return [pair for pair in self.pairs if pair.protocol == protocol.letter]


def compute_statistics(runs: list[Run], protocols: list[Protocol], places: list[Place]) -> Statistics:
    """All numbers of a comparison. places: the place of each run."""
    table, repeated, copies = mark_repeats(run_rows(runs, places), runs)
    table = mark_deployed(table, runs)
    at_points = repeat_baseline(table, protocols)
    summary = summarize(at_points, protocols)
    letters = [protocol.letter for protocol in protocols]
    over_labels = [protocol.letter for protocol in protocols if protocol.axis == LABEL]
    return Statistics(
        table=table,
        at_points=at_points,
        summary=summary,
        pairs=[pair for letter in letters for pair in compare_pairs(at_points, summary, letter)],
        efficiency=[row for letter in over_labels for row in label_efficiency(summary, letter)],
        cost=training_cost(table, summary),
        repeated=repeated,
        copies=copies,
    )


def summarize(table: pd.DataFrame, protocols: list[Protocol]) -> pd.DataFrame:
    """Per protocol, variant, network and point: n, and mean and standard deviation (n − 1) of each score.

    The deviation of one seed, and the median of fewer than 20 evaluations, are missing (NaN).
    """
    keys = ["protocol", "variant", "method", "network", "deployed", "label", "point"]
    averaged = [score for score in SCORES if score != "error_best_on_test"]
    columns = {score: (score, "mean") for score in averaged} | {f"{score}_std": (score, "std") for score in averaged}
    ordered = {name: columns[name] for score in averaged for name in (score, f"{score}_std")}
    counted = table[table["counted"]]
    summary = counted.groupby(keys, sort=False, as_index=False).agg(n=("error_last", "count"), **ordered)
    ranks = {
        (p.letter, name): (number, place) for number, p in enumerate(protocols) for place, name in enumerate(p.variants)
    }
    rank = [(*ranks[row.protocol, row.variant], point_order(row.point), row.deployed) for row in summary.itertuples()]
    return summary.iloc[sorted(range(len(summary)), key=rank.__getitem__)].reset_index(drop=True)


def ranking(summary: pd.DataFrame, point: Point) -> pd.DataFrame:
    """The deployed networks at one point, the smallest mean error first. summary: of one protocol."""
    deployed = summary[summary["deployed"] & (summary["point"] == point)]
    return deployed.sort_values("error_last", kind="stable")


def compare_pairs(table: pd.DataFrame, summary: pd.DataFrame, letter: str) -> list[Pair]:
    """Paired differences per point of one protocol.

    Each variant is compared with the baseline, and the winner with the runner-up. Of several variants of the baseline,
    the best at that point is used.
    """
    counted = table[table["counted"] & table["deployed"] & (table["protocol"] == letter)]
    summary, pairs = summary[summary["protocol"] == letter], []
    for point in points_of(summary):
        ranked = ranking(summary, point)
        baseline = ranked.loc[ranked["method"] == BASELINE, "variant"].head(1).tolist()
        others = ranked.loc[ranked["method"] != BASELINE, "variant"]
        wanted = [(name, base, "baseline") for base in baseline for name in others]
        first, second = [*ranked["variant"], None, None][:2]
        if second and (first, second, "baseline") not in wanted:
            wanted.append((first, second, "runner-up"))
        runs, label = counted[counted["point"] == point], ranked["label"].tolist()[0]
        pairs += [
            Pair(
                letter,
                label,
                point,
                name,
                other,
                about,
                *paired_interval(errors_of(runs, name), errors_of(runs, other)),
            )
            for name, other, about in wanted
        ]
    return pairs


def errors_of(runs: pd.DataFrame, variant: str) -> dict[tuple, float]:
    """Last error by seed, split seed and digest of the labeled images. Runs without a digest cannot be paired."""
    runs = runs[(runs["variant"] == variant) & runs["split_digest"].notna()]
    identity = zip(runs["seed"], runs["split_seed"], runs["split_digest"], strict=True)
    return dict(zip(identity, runs["error_last"], strict=True))


def paired_interval(
    first: dict[tuple, float], second: dict[tuple, float]
) -> tuple[int, float | None, float | None, float | None]:
    """Number of shared keys, mean of second − first over them, and its 95 % interval by Student's paired t-test."""
    from scipy import stats

    shared = sorted(first.keys() & second.keys())
    if not shared:
        return 0, None, None, None
    differences = np.array([second[name] - first[name] for name in shared])
    mean = float(differences.mean())
    if len(shared) == 1:
        return 1, mean, None, None
    if np.allclose(differences, mean, rtol=0, atol=1e-12):
        return len(shared), mean, mean, mean  # equal differences, for which scipy's interval is NaN
    test = stats.ttest_rel([second[name] for name in shared], [first[name] for name in shared])
    interval = test.confidence_interval(0.95)
    return len(shared), mean, float(interval.low), float(interval.high)


def label_efficiency(summary: pd.DataFrame, letter: str) -> list[dict]:
    """How many labels the baseline needs for each variant's error at each label count of one protocol.

    `low` and `high` are equal where that number lies between label counts of the baseline; otherwise one is None.
    Empty where the baseline has fewer than two label counts. Runs with all labels are left out.
    """
    numbered = summary[(summary["protocol"] == letter) & summary["deployed"] & (summary["label"] != "all")]
    best = numbered[numbered["method"] == BASELINE].groupby("label")["error_last"].min()
    curve = sorted((float(label), error) for label, error in best.items())
    if len(curve) < 2:
        return []
    rows = []
    for row in numbered[numbered["method"] != BASELINE].itertuples():
        low, high = labels_needed(curve, row.error_last)
        rows.append({"protocol": letter, "variant": row.variant, "label": row.label, "low": low, "high": high})
    return rows


def labels_needed(curve: list[tuple[float, float]], error: float) -> tuple[float | None, float | None]:
    """Bounds of the smallest number of labels at which `curve` reaches `error`; linear between points over log(labels).

    Both bounds are equal within the curve; (None, first label count) before it, (last label count, None) beyond it.
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


def training_cost(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Per protocol, variant and point: calibration error of the deployed network, speed, time and memory.

    Median images per second, mean and total training seconds, and the largest peak memory, in the order of the summary.
    Only points at which runs were made.
    """
    deployed = table[table["counted"] & table["deployed"]]
    spent = deployed.groupby(["protocol", "variant", "point"], as_index=False).agg(
        images_per_second=("images_per_second", "median"),
        training_seconds=("training_seconds", "mean"),
        training_seconds_in_all=("training_seconds", "sum"),
        peak_memory_bytes=("peak_memory_bytes", "max"),
    )
    kept = summary.loc[summary["deployed"], ["protocol", "variant", "network", "label", "point", "n", "ece", "ece_std"]]
    return kept.merge(spent, on=["protocol", "variant", "point"])

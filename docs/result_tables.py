"""Writes the tables of results.md and README.md from results of runs: `python docs/result_tables.py`.

A table stands between the marks `<!-- KIND: PATTERN -->` and `<!-- end -->`. The pattern names result files, and the
kind is a key of `KINDS`. With `--check` the tables are only compared.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from meanteacher.comparison.axes import TITLES, point_order
from meanteacher.comparison.protocols import Protocol, group_runs
from meanteacher.comparison.results import Run, find_runs
from meanteacher.comparison.settings import show
from meanteacher.comparison.statistics import Pair, Statistics, compute_statistics
from meanteacher.comparison.verdicts import interval, signed, spread

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "results.md", ROOT / "README.md"]
BLOCK = re.compile(r"<!-- (?P<kind>[a-z]+): (?P<pattern>\S+) -->\n.*?<!-- end -->", re.DOTALL)
DECIMALS = 1


def with_tables(text: str) -> str:
    """The text with every table written anew."""
    return BLOCK.sub(
        lambda block: (
            f"<!-- {block['kind']}: {block['pattern']} -->\n\n"
            f"{tables(block['pattern'], KINDS[block['kind']])}\n\n<!-- end -->"
        ),
        text,
    )


def tables(pattern: str, table: Callable[[Protocol, Statistics], str]) -> str:
    """A table per protocol of the runs, each with a line on how they were made."""
    runs = find_runs([str(ROOT / pattern)])
    protocols, places = group_runs(runs)
    numbers = compute_statistics(runs, protocols, places)
    letters = [place.protocol for place in places]
    blocks = []
    for protocol in protocols:
        own = [run for run, letter in zip(runs, letters, strict=True) if letter == protocol.letter]
        blocks += [f"{protocol.shared}.", table(protocol, numbers), origin(own)]
    return "\n\n".join(blocks)


def scores(protocol: Protocol, numbers: Statistics) -> str:
    """A row per point and method: errors of the deployed network in percent, and the difference from supervised."""
    judged = numbers.judged_at_points(protocol)
    best = judged.groupby(["variant", "point"])["error_best_on_test"].agg(["mean", "std"])
    pairs = {(pair.variant, pair.point): pair for pair in numbers.pairs_of(protocol) if pair.about == "baseline"}
    summary = numbers.summary_of(protocol)
    rows = [
        {
            TITLES[protocol.axis]: show(row.point),
            "method": row.variant,
            "network": row.network,
            "n": row.n,
            "last": spread(row.error_last, row.error_last_std, DECIMALS),
            "median of 20": spread(row.error_median_last_20, row.error_median_last_20_std, DECIMALS),
            "best on test": spread(*best.loc[(row.variant, row.point)], DECIMALS),
            "ECE": spread(row.ece, row.ece_std, DECIMALS),
            "better than supervised by (95 %)": difference(pairs.get((row.variant, row.point))),
        }
        for row in summary[summary["deployed"]].sort_values("point", kind="stable", key=point_orders).itertuples()
    ]
    return pipe_table(rows)


def errors(protocol: Protocol, numbers: Statistics) -> str:
    """A row per method and a column per point: last error in percent, and n."""
    summary = numbers.summary_of(protocol)
    deployed = summary[summary["deployed"]]
    points = sorted(set(deployed["point"]), key=point_order)
    rows = []
    for variant, own in deployed.groupby("variant", sort=False):
        cells = {
            row.point: f"{spread(row.error_last, row.error_last_std, DECIMALS)} (n = {row.n})"
            for row in own.itertuples()
        }
        rows.append({TITLES[protocol.axis]: variant} | {show(point): cells.get(point, "–") for point in points})
    return pipe_table(rows)


def networks(protocol: Protocol, numbers: Statistics) -> str:
    """A row per point and method: error of each network, how much the best evaluation flatters, and the cost."""
    counted = numbers.at_points[numbers.at_points["counted"] & (numbers.at_points["protocol"] == protocol.letter)]
    costs = numbers.cost[numbers.cost["protocol"] == protocol.letter]
    seconds = costs.set_index(["variant", "point"])["training_seconds"]
    pairs = {(pair.variant, pair.point): pair for pair in numbers.pairs_of(protocol) if pair.about == "baseline"}
    rows = []
    for row in costs.sort_values("point", kind="stable", key=point_orders).itertuples():
        own = counted[(counted["variant"] == row.variant) & (counted["point"] == row.point)]
        student, deployed = own["network"] == "student", own[own["deployed"]]
        pair = pairs.get((row.variant, row.point))
        gained = 100 * pair.difference if pair and pair.difference is not None else 0
        extra = row.training_seconds - seconds[pair.against, row.point] if pair else 0
        rows.append(
            {
                TITLES[protocol.axis]: show(row.point),
                "method": row.variant,
                "student": mean_and_spread(own[student]["error_last"]),
                "teacher or average": mean_and_spread(own[~student]["error_last"]),
                "last − best on test": mean_and_spread(deployed["error_last"] - deployed["error_best_on_test"]),
                "training (s)": f"{row.training_seconds:.0f}",
                "extra seconds per point gained": f"{extra / gained:.0f}" if gained > 0 else "–",
            }
        )
    return pipe_table(rows)


def mean_and_spread(values: pd.Series) -> str:
    """Mean and standard deviation of fractions, as percent."""
    return spread(values.mean(), values.std(), DECIMALS)


KINDS: dict[str, Callable[[Protocol, Statistics], str]] = {"runs": scores, "errors": errors, "networks": networks}
"""What a table shows, by the word in its mark."""


def pipe_table(rows: list[dict[str, str]]) -> str:
    """A Markdown table."""
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def point_orders(points: pd.Series) -> pd.Series:
    """Sort keys of points."""
    return points.map(point_order)


def difference(pair: Pair | None) -> str:
    """Points, interval and verdict of a paired difference."""
    if pair is None or pair.difference is None:
        return "–"
    points = signed(100 * pair.difference, DECIMALS)
    if pair.low is None:
        return f"{points} (one seed)"
    return f"{points} ({interval(pair, DECIMALS)}), {pair.verdict}"


def origin(runs: list[Run]) -> str:
    """How the runs were made: number, seeds, commits, hardware, threads and time."""
    results = [run.result for run in runs if run.finished]

    def values(name: str) -> str:
        return ", ".join(str(value) for value in sorted({getattr(result, name) for result in results}))

    minutes = sum(result.training_seconds for result in results) / 60
    machine = f"{values('hardware')}, {values('threads')} thread(s) a run, {values('precision')}"
    return (
        f"{len(results)} runs, seeds {values('seed')}; commit {values('commit')}; {machine}; "
        f"{minutes:.0f} minutes of training in all."
    )


def main(arguments: list[str]) -> int:
    """Write the tables, or with `--check` return 1 if one of them is not what the results give."""
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := with_tables(text)) != text:
            stale.append(page)
            if arguments != ["--check"]:
                page.write_text(new, encoding="utf-8")
    if arguments == ["--check"] and stale:
        names = ", ".join(str(page.relative_to(ROOT)) for page in stale)
        print(f"error: {names}: tables are stale; run python docs/result_tables.py", file=sys.stderr)
    return int(arguments == ["--check"] and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Writes the tables of results.md from the results of runs: `python docs/result_tables.py`; `--check` only compares.

A table stands between the marks `<!-- runs: PATTERN -->` and `<!-- end -->`; the pattern names result files.
"""

import re
import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from meanteacher.comparison.axes import TITLES, point_order
from meanteacher.comparison.protocols import Protocol, group_runs
from meanteacher.comparison.results import Run, find_runs
from meanteacher.comparison.settings import show
from meanteacher.comparison.statistics import Pair, Statistics, compute_statistics
from meanteacher.comparison.verdicts import interval, signed, spread

PAGE = Path(__file__).with_name("results.md")
ROOT = PAGE.parents[1]
BLOCK = re.compile(r"<!-- runs: (?P<pattern>\S+) -->\n.*?<!-- end -->", re.DOTALL)
DECIMALS = 1


def with_tables(text: str) -> str:
    """The text with every table written anew."""
    return BLOCK.sub(
        lambda block: f"<!-- runs: {block['pattern']} -->\n\n{tables(block['pattern'])}\n\n<!-- end -->", text
    )


def tables(pattern: str) -> str:
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


def table(protocol: Protocol, numbers: Statistics) -> str:
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
    text = PAGE.read_text(encoding="utf-8")
    new = with_tables(text)
    if arguments == ["--check"]:
        if new != text:
            print(f"error: {PAGE}: its tables are stale; run python docs/result_tables.py", file=sys.stderr)
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

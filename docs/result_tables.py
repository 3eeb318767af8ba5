"""Write the tables in results.md and README.md from the results of runs: `python docs/result_tables.py`.

Tables are delimited by `<!-- KIND: PATTERN -->` and `<!-- end -->`. The pattern names result files, and the
kind is a key of `KINDS`. With `--check` the tables are only compared.
"""

import argparse
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
BLOCK = re.compile(r"<!-- (?P<kind>[a-z]+): (?P<pattern>\S+) -->\n(?:(?!<!--).)*<!-- end -->", re.DOTALL)
DECIMALS = 1


def with_tables(text: str) -> str:
    """The text with every table written anew."""
    return BLOCK.sub(written_anew, text)


def written_anew(block: re.Match) -> str:
    """A table with its marks."""
    kind, pattern = block["kind"], block["pattern"]
    return f"<!-- {kind}: {pattern} -->\n\n{tables(pattern, KINDS[kind])}\n\n<!-- end -->"


def tables(pattern: str, table: Callable[[Protocol, Statistics], str]) -> str:
    """A table per protocol of the runs, each with a line on how they were made."""
    runs = find_runs([str(ROOT / pattern)])
    protocols, places = group_runs(runs)
    statistics = compute_statistics(runs, protocols, places)
    blocks = []
    for protocol in protocols:
        members = [run for run, place in zip(runs, places, strict=True) if place.protocol == protocol.letter]
        blocks += [f"{protocol.shared}.", table(protocol, statistics), origin(members)]
    return "\n\n".join(blocks)


def scores(protocol: Protocol, statistics: Statistics) -> str:
    """A row per point and method: errors of the deployed network in percent, and the difference from supervised."""
    best = (
        statistics.judged_at_points(protocol).groupby(["variant", "point"])["error_best_on_test"].agg(["mean", "std"])
    )
    pairs = {(pair.variant, pair.point): pair for pair in statistics.pairs_of(protocol) if pair.about == "baseline"}
    summary = statistics.summary_of(protocol)
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


def errors(protocol: Protocol, statistics: Statistics) -> str:
    """A row per method and a column per point: last error in percent, and n."""
    summary = statistics.summary_of(protocol)
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


def networks(protocol: Protocol, statistics: Statistics) -> str:
    """A row per point and method: errors of both networks, the gap between last and best error, and training time."""
    at_points = statistics.at_points
    counted = at_points[at_points["counted"] & (at_points["protocol"] == protocol.letter)]
    costs = statistics.cost[statistics.cost["protocol"] == protocol.letter]
    rows = []
    for row in costs.sort_values("point", kind="stable", key=point_orders).itertuples():
        measured = counted[(counted["variant"] == row.variant) & (counted["point"] == row.point)]
        student, deployed = measured["network"] == "student", measured[measured["deployed"]]
        rows.append(
            {
                TITLES[protocol.axis]: show(row.point),
                "method": row.variant,
                "student": mean_and_spread(measured[student]["error_last"]),
                "teacher or average": mean_and_spread(measured[~student]["error_last"]),
                "last − best on test": mean_and_spread(deployed["error_last"] - deployed["error_best_on_test"]),
                "training (s)": f"{row.training_seconds:.0f}",
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; the exit status is 1 for a stale table")
    check, stale = parser.parse_args(arguments).check, []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := with_tables(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and stale:
        print(f"error: {', '.join(stale)}: tables are stale; run python docs/result_tables.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

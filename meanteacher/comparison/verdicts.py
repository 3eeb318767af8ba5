"""The sentences a comparison begins with: which method has the smallest error, by how much, and if it may be noise."""

from itertools import groupby

import pandas as pd

from meanteacher.comparison.axes import LABEL, point_text
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.rows import points_of
from meanteacher.comparison.statistics import Pair, Statistics, ranking


def write_verdicts(protocols: list[Protocol], numbers: Statistics, problems: list[dict]) -> list[str]:
    """One or two sentences per protocol and point, and one about runs that are in no number."""
    lines = []
    for protocol in protocols:
        summary = numbers.summary_of(protocol)
        for point in points_of(summary):
            pairs = [pair for pair in numbers.pairs_of(protocol) if pair.point == point]
            text = point_text(protocol.axis, point)
            place = f"{protocol.letter}, {text}" if len(protocols) > 1 else text
            lines.append(f"{place}: {verdict(ranking(summary, point), pairs, protocol.decimals)}")
    if not lines:
        lines.append("No run can be compared yet.")
    if problems:
        n = len(problems)
        lines.append(f"{n} run{'s are' if n > 1 else ' is'} in no number above: see Problems.")
    return lines


def write_captions(protocols: list[Protocol], numbers: Statistics) -> list[str]:
    """A sentence per method: where along the axis it is ahead of the baseline, and where it is behind."""
    lines = []
    for protocol in protocols:
        pairs = [pair for pair in numbers.pairs_of(protocol) if pair.about == "baseline" and protocol.axis != LABEL]
        for variant in dict.fromkeys(pair.variant for pair in pairs):
            place = f"{protocol.letter}: " if len(protocols) > 1 else ""
            lines.append(f"{place}{course(protocol.axis, [pair for pair in pairs if pair.variant == variant])}")
    return lines


def course(axis: str, pairs: list[Pair]) -> str:
    """For example `fixmatch is ahead of supervised at mismatch 0, and behind it from mismatch 0.5 on.`

    pairs: of one variant against the baseline, in the order of the axis.
    """
    stretches = [(state, [pair.point for pair in group]) for state, group in groupby(pairs, key=state_of)]
    phrases, end = [], 0
    for state, points in stretches:
        start, end = end, end + len(points)
        first, last = point_text(axis, points[0]), point_text(axis, points[-1])
        if len(stretches) == 1:
            where = f"at every point from {first} to {last}" if len(points) > 1 else f"at {first}"
        elif len(points) == 1:
            where = f"at {first}"
        else:
            middle = f"from {first} on" if end == len(pairs) else f"from {first} to {last}"
            where = f"up to {last}" if start == 0 else middle
        phrases.append(f"{state.format(other=pairs[0].against if start == 0 else 'it')} {where}")
    return f"{pairs[0].variant} is {', '.join(phrases)}."


def state_of(pair: Pair) -> str:
    """How a variant stands against the other, with `{other}` for its name."""
    if pair.verdict == "within noise":
        return "within noise of {other}"
    if pair.verdict == "clear":
        return "ahead of {other}" if pair.difference > 0 else "behind {other}"
    return "not comparable with {other} (" + pair.verdict + ")"


def verdict(ranked: pd.DataFrame, pairs: list[Pair], decimals: int) -> str:
    """The verdict at one point of one protocol. ranked: the deployed networks, the best first."""
    errors = {
        row.variant: f"{row.variant} {spread(row.error_last, row.error_last_std, decimals)} %"
        for row in ranked.itertuples()
    }
    winner, *others = errors
    if not others:
        return f"{errors[winner]} (n = {ranked['n'].iloc[0]}); there is no other method to compare it with."
    first, *second = [pair for pair in pairs if pair.variant == winner]
    sentences = [f"{errors[winner]} {outcome(first, first.against, decimals)}"]
    sentences += [f"It {outcome(pair, f'the runner-up {pair.against}', decimals)}" for pair in second]
    return " ".join(sentences)


def outcome(pair: Pair, other: str, decimals: int) -> str:
    """The paired difference in words, with the pair's variant as the subject. other: the other variant in words."""
    if pair.n == 0:
        return f"has a smaller mean error than {other}, but no two runs share seed and labeled images: not paired."
    size = f"{100 * abs(pair.difference):.{decimals}f} points"
    if pair.verdict == "clear":
        verb = f"beats {other} by {size}" if pair.difference > 0 else f"loses to {other} by {size}"
    else:
        verb = f"is {size} {'ahead of' if pair.difference >= 0 else 'behind'} {other}"
    if pair.low is None:
        return f"{verb} ({pair.verdict})."
    return f"{verb} (95 % interval {interval(pair, decimals)}, n = {pair.n}): {pair.verdict}."


def interval(pair: Pair, decimals: int) -> str:
    """The 95 % interval in percentage points of error."""
    return " to ".join(signed(100 * bound, decimals) for bound in (pair.low, pair.high))


def signed(value: float, decimals: int) -> str:
    """A number with a true minus sign, and no sign before a rounded zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def spread(mean: float, deviation: float, decimals: int) -> str:
    """Fractions as percent: `12.5 ± 7.9`; `12.5` for one seed; `–` where nothing was measured."""
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.{decimals}f}" + ("" if pd.isna(deviation) else f" ± {100 * deviation:.{decimals}f}")

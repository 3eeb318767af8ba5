"""The sentences a comparison begins with: who has the smallest error, by how much, and whether seeds could explain it."""

import pandas as pd

from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.statistics import Pair, label_text, labels_of, ranking


def verdicts(protocols: list[Protocol], found: pd.DataFrame, pairs: list[Pair], problems: list[dict]) -> list[str]:
    """A sentence or two per protocol and label count, and one about runs that are in no mean."""
    lines = []
    for protocol in protocols:
        here = found[found["protocol"] == protocol.letter]
        for label in labels_of(here):
            its = [pair for pair in pairs if (pair.protocol, pair.label) == (protocol.letter, label)]
            place = f"{protocol.letter}, {label_text(label)}" if len(protocols) > 1 else label_text(label)
            lines.append(f"{place}: {verdict(ranking(here, label), its, protocol.decimals)}")
    if not lines:
        lines.append("No run can be compared yet.")
    if problems:
        n = len(problems)
        lines.append(f"{n} run{'s are' if n > 1 else ' is'} in no number above: see Problems.")
    return lines


def verdict(ranked: pd.DataFrame, pairs: list[Pair], decimals: int) -> str:
    """One label count of one protocol. ranked: its deployed networks, the best first."""
    shown = {
        row.variant: f"{row.variant} {spread(row.error_last, row.error_last_std, decimals)} %"
        for row in ranked.itertuples()
    }
    winner, *others = shown
    if not others:
        return f"{shown[winner]} (n = {ranked['n'].iloc[0]}); nothing else to compare it with."
    first, *second = [pair for pair in pairs if pair.variant == winner]
    sentences = [f"{shown[winner]} {outcome(first, first.against, decimals)}"]
    sentences += [f"It {outcome(pair, f'the runner-up {pair.against}', decimals)}" for pair in second]
    return " ".join(sentences)


def outcome(pair: Pair, other: str, decimals: int) -> str:
    """The paired difference in words, from the variant's side. other: how the other one is called."""
    if pair.n == 0:
        return f"has a smaller mean error than {other}, but no two runs share seed and labeled images: not paired."
    size = f"{100 * abs(pair.difference):.{decimals}f} points"
    if pair.judgement == "clear":
        verb = f"beats {other} by {size}" if pair.difference > 0 else f"loses to {other} by {size}"
    else:
        verb = f"is {size} {'ahead of' if pair.difference >= 0 else 'behind'} {other}"
    if pair.low is None:
        return f"{verb} ({pair.judgement})."
    return f"{verb} (95 % interval {interval(pair, decimals)}, n = {pair.n}): {pair.judgement}."


def interval(pair: Pair, decimals: int) -> str:
    """The 95 % interval in points of error."""
    return " to ".join(signed(100 * bound, decimals) for bound in (pair.low, pair.high))


def signed(value: float, decimals: int) -> str:
    """A number with a true minus sign, and none before a zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def spread(mean: float, deviation: float, decimals: int) -> str:
    """Fractions as percent: `12.5 ± 7.9`; `12.5` for one seed; `–` for nothing."""
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.{decimals}f}" + ("" if pd.isna(deviation) else f" ± {100 * deviation:.{decimals}f}")

"""Published errors for the data sets and methods of a comparison, in percent, as printed in their sources."""

from pathlib import Path

import pandas as pd

from meanteacher.comparison.axes import LABEL, point_order
from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.verdicts import spread
from meanteacher.config.added_keys import SCENARIO

FILE = Path(__file__).parent / "published.csv"


def read_published() -> pd.DataFrame:
    """All rows of published.csv, in the order of the file.

    `error` and `std` are percent; `std` is the deviation over runs that the source prints, NaN where none was read.
    `recipe` is the name of the file in conf/experiment that reproduces the row, or empty.
    """
    rows = pd.read_csv(FILE, dtype={"label": str, "runs": "Int64", "recipe": str})
    labels = [label if label == "all" else int(label) for label in rows["label"]]
    return rows.assign(label=labels, recipe=rows["recipe"].fillna(""))


def show_errors(rows: pd.DataFrame) -> list[str]:
    """The error of each row: `15.51 ± 0.18`, or `15.51` where no deviation was read."""
    return [spread(error / 100, std / 100, 2) for error, std in zip(rows["error"], rows["std"], strict=True)]


def published_for(protocols: list[Protocol]) -> pd.DataFrame:
    """The rows for the data sets and methods of the protocols without a realistic option."""
    rows = read_published()
    wanted = {(p.dataset, variant.method) for p in protocols if is_usual(p) for variant in p.variants.values()}
    return rows[[pair in wanted for pair in zip(rows["dataset"], rows["method"], strict=True)]].reset_index(drop=True)


def is_usual(protocol: Protocol) -> bool:
    """Whether the runs use no realistic option, as those of the published errors."""
    return protocol.axis == LABEL and all(protocol.fields.get(name) is None for name in SCENARIO)


def choose_series(rows: pd.DataFrame, protocol: Protocol, labels: list[int | str]) -> dict[str, pd.DataFrame]:
    """One published series per method for a picture, at the label counts that were run.

    Of several series, those with the same network are preferred, then those that were not chosen on the test part, then
    those with the most label counts.
    """
    if not is_usual(protocol):
        return {}
    rows = rows[(rows["dataset"] == protocol.dataset) & rows["label"].isin(labels)]
    network = f"-{protocol.fields.get('model.depth')}-{protocol.fields.get('model.width')}"
    chosen = {}
    for method in dict.fromkeys(variant.method for variant in protocol.variants.values()):
        groups = rows[rows["method"] == method].groupby(["source", "network", "selection", "protocol"])
        candidates = [series for _, series in groups]
        if candidates:
            best = max(candidates, key=lambda series: preference(series.iloc[0], network) + (len(series),))
            chosen[method] = best.sort_values("label", key=lambda column: column.map(point_order))
    return chosen


def preference(row: pd.Series, network: str) -> tuple[bool, bool]:
    """Sort key of a series: has the same network, and was not chosen on the test part."""
    return row["network"].endswith(network), row["selection"] in ("last", "median of 20")

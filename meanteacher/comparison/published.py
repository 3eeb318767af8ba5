"""Numbers that others published, for the data sets and methods of a comparison. Their errors are percent, as printed."""

from pathlib import Path

import pandas as pd

from meanteacher.comparison.protocols import Protocol
from meanteacher.comparison.statistics import label_order

FILE = Path(__file__).parent / "published.csv"


def published(protocols: list[Protocol]) -> pd.DataFrame:
    """The rows of published.csv for each protocol's data set and methods, in the file's order."""
    rows = pd.read_csv(FILE, dtype={"label": str, "runs": "Int64"})
    rows["label"] = [label if label == "all" else int(label) for label in rows["label"]]
    wanted = {(p.dataset, variant.method) for p in protocols for variant in p.variants.values()}
    return rows[[pair in wanted for pair in zip(rows["dataset"], rows["method"], strict=True)]].reset_index(drop=True)


def for_picture(rows: pd.DataFrame, protocol: Protocol, labels: list[int | str]) -> dict[str, pd.DataFrame]:
    """One published series per method, of the labels used: where there are several the one with the same network, not
    chosen on the test part, with the most label counts. The table has all."""
    here = rows[(rows["dataset"] == protocol.dataset) & rows["label"].isin(labels)]
    network = f"-{protocol.fields.get('model.depth')}-{protocol.fields.get('model.width')}"
    chosen = {}
    for method in dict.fromkeys(variant.method for variant in protocol.variants.values()):
        series = [
            its for _, its in here[here["method"] == method].groupby(["source", "network", "selection", "protocol"])
        ]
        if series:
            best = max(series, key=lambda its: merit(its.iloc[0], network) + (len(its),))
            chosen[method] = best.sort_values("label", key=lambda column: column.map(label_order))
    return chosen


def merit(row: pd.Series, network: str) -> tuple[bool, bool]:
    return row["network"].endswith(network), row["selection"] in ("last", "median of 20")

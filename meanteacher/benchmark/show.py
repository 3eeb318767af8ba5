"""What was measured, as a table and as a picture."""

from pathlib import Path

import numpy as np
from tabulate import tabulate

COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#999999")


def spread(values: list[float], form: str) -> str:
    """The median, with the range."""
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def text(found: dict) -> str:
    """Medians over the rounds, with their range."""
    bound, last = found["roofline"], list(found["seconds_per_step"])[-1]
    at_best = found["images_per_step"] / bound["seconds"]
    place = f"{found['hardware']}, {found['device']}, {found['threads']} threads, torch {found['versions']['torch']}"
    rows = [
        (
            name,
            spread(found["images_per_second"][name], ".0f"),
            spread(found["ratio_to_plain_loop"][name], ".2f"),
            f"{found['peak_memory_bytes'][name] / 2**30:.2f}",
        )
        for name in found["seconds_per_step"]
    ]
    shares = [(name, spread(values, ".1f")) for name, values in shares_of_step(found).items()]
    over = (100 * np.divide(found["fit_seconds_per_step"], found["seconds_per_step"][last]) - 100).tolist()
    share = 100 * bound["seconds"] / np.median(found["seconds_per_step"][last])
    return "\n".join(
        [
            f"{found['method']}, {found['model']}, {found['images_per_step']} images a step; {place}; "
            f"{found['workers']} workers in each of the plain loop's loaders",
            "",
            tabulate(rows, ("variant", "images/s", "times the plain loop", "peak GiB"), disable_numparse=True),
            "",
            tabulate(shares, ("part of an eager step", "%"), disable_numparse=True),
            "",
            f"fit() with its logs every {found['steps']} steps takes {spread(over, '+.1f')} % beyond bare steps",
            f"roofline {at_best:.0f} images/s: {bound['flops'] / 1e9:.3g} GFLOP and {bound['bytes'] / 1e9:.3g} GB a step at "
            f"{bound['flops_per_second'] / 1e12:.2f} TFLOP/s and {bound['bytes_per_second'] / 1e9:.0f} GB/s, measured here; "
            f"{last} reaches {share:.0f} % of it",
        ]
    )


def shares_of_step(found: dict) -> dict[str, list[float]]:
    """Percent of the step, one value per round."""
    whole, *names = found["parts"]
    return {name: (100 * np.divide(found["parts"][name], found["parts"][whole])).tolist() for name in names}


def picture(found: dict, path: Path) -> None:
    """Speeds with their range beside the roofline, and the parts of the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(
        f"{found['method']}, {found['model']}, {found['images_per_step']} images a step, {found['hardware']}"
    )
    speeds, parts = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(found["images_per_second"])
    for row, name in enumerate(names):
        values, ratio = found["images_per_second"][name], np.median(found["ratio_to_plain_loop"][name])
        middle = np.median(values)
        speeds.barh(
            row, middle, color=COLOURS[0] if row else COLOURS[-1], xerr=[[middle - min(values)], [max(values) - middle]]
        )
        speeds.text(0, row, f"  {middle:.0f}  ({ratio:.1f}×)", va="center", fontsize=9, color="white")
    best = found["images_per_step"] / found["roofline"]["seconds"]
    speeds.axvline(best, color="#D55E00", linestyle="--")
    speeds.text(best, -0.75, f"roofline {best:.0f} ", color="#D55E00", ha="right", fontsize=9)
    speeds.set(yticks=range(len(names)), yticklabels=names, xlabel="images/s", ylim=(len(names) - 0.4, -1))
    speeds.set_xlim(0, 1.25 * max(best, *(max(v) for v in found["images_per_second"].values())))
    shares = {name: np.median(values) for name, values in shares_of_step(found).items()}
    parts.barh(list(shares), list(shares.values()), color=COLOURS[: len(shares)])
    for row, value in enumerate(shares.values()):
        parts.text(max(value, 0) + 1, row, f"{value:.1f} %", va="center", fontsize=9)
    parts.set(xlabel="% of an eager step", xlim=(0, 115))
    parts.invert_yaxis()
    for axes in (speeds, parts):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)

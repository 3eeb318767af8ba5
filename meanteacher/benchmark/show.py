"""The measurements as a table and as a picture."""

from pathlib import Path

import numpy as np
from tabulate import tabulate

from meanteacher.config import colors

NAME_WIDTH = 80
"""Characters of a kernel's name that are shown."""

PART_COLORS = (colors.BLUE, colors.SKY_BLUE, colors.GREEN, colors.ORANGE, colors.PURPLE, colors.GRAY)


def median_and_range(values: list[float], form: str) -> str:
    """`median (smallest to largest)`; form: a format specification such as `.1f`."""
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def format_text(measurements: dict) -> str:
    """The measurements for a terminal: medians over the rounds, with their range."""
    heading = (
        f"{measurements['method']}, {measurements['model']}, {measurements['images_per_step']} images per step; "
        f"{measurements['hardware']}, {measurements['device']}, {measurements['threads']} threads, "
        f"torch {measurements['versions']['torch']}; {measurements['workers']} workers in each loader of the plain loop"
    )
    speeds = [
        (
            name,
            median_and_range(measurements["images_per_second"][name], ".0f"),
            median_and_range(measurements["ratio_to_plain_loop"][name], ".2f"),
            f"{measurements['peak_memory_bytes'][name] / 2**30:.2f}",
        )
        for name in measurements["seconds_per_step"]
    ]
    shares = [(name, median_and_range(values, ".1f")) for name, values in shares_of_step(measurements).items()]
    return "\n".join(
        [
            heading,
            "",
            tabulate(speeds, ("variant", "images/s", "times the plain loop", "peak GiB"), disable_numparse=True),
            "",
            tabulate(shares, ("part of an eager step", "%"), disable_numparse=True),
            "",
            *format_bounds(measurements),
            "",
            *format_kernels(measurements),
        ]
    )


def format_bounds(measurements: dict) -> list[str]:
    """The cost of the training loop around the steps, and the roofline bound: a line each."""
    bound, (*_, last) = measurements["roofline"], measurements["seconds_per_step"]
    seconds = measurements["seconds_per_step"][last]
    overhead = (100 * np.divide(measurements["fit_seconds_per_step"], seconds) - 100).tolist()
    return [
        f"fit() with its logs every {measurements['steps']} steps takes "
        f"{median_and_range(overhead, '+.1f')} % more than bare steps",
        f"roofline {measurements['images_per_step'] / bound['seconds']:.0f} images/s: "
        f"{bound['flops'] / 1e9:.3g} GFLOP and {bound['bytes'] / 1e9:.3g} GB per step at "
        f"{bound['flops_per_second'] / 1e12:.2f} TFLOP/s and "
        f"{bound['bytes_per_second'] / 1e9:.0f} GB/s, measured here; "
        f"{last} reaches {100 * bound['seconds'] / np.median(seconds):.0f} % of it",
    ]


def format_kernels(measurements: dict) -> list[str]:
    """The most expensive kernels of a step, and on a GPU the gaps between kernels: a line each."""
    rows = [
        (each["name"][:NAME_WIDTH], f"{each['calls']:.0f}", f"{each['ms']:.2f}", f"{100 * each['share']:.1f}")
        for each in measurements["kernels"]
    ]
    lines = [tabulate(rows, ("kernel of a step", "calls", "ms", "%"), disable_numparse=True)]
    if gaps := measurements["gaps"]:
        lines.append(
            f"{gaps['count']} gaps between kernels take {100 * gaps['share_idle']:.1f} % of the time; the median is "
            f"{gaps['median_us']:.1f} µs, the longest {gaps['longest_us']:.0f} µs"
        )
    return lines


def shares_of_step(measurements: dict) -> dict[str, list[float]]:
    """Percent of the step that each part takes, a value per round."""
    whole, *parts = measurements["parts"]
    seconds = measurements["parts"]
    return {part: (100 * np.divide(seconds[part], seconds[whole])).tolist() for part in parts}


def draw_picture(measurements: dict, path: Path) -> None:
    """Draw the speeds, with their range and the roofline bound, next to the parts of the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(
        f"{measurements['method']}, {measurements['model']}, {measurements['images_per_step']} images per step, "
        f"{measurements['hardware']}"
    )
    speeds, parts = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_speeds(speeds, measurements)
    draw_parts(parts, measurements)
    for axes in (speeds, parts):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_speeds(axes, measurements: dict) -> None:
    """A bar per variant: the median, with the range over the rounds and the ratio to the plain loop."""
    speeds, ratios = measurements["images_per_second"], measurements["ratio_to_plain_loop"]
    for row, (name, values) in enumerate(speeds.items()):
        median = np.median(values)
        error = [[median - min(values)], [max(values) - median]]
        axes.barh(row, median, color=colors.BLUE if row else colors.GRAY, xerr=error)
        axes.text(0, row, f"  {median:.0f}  ({np.median(ratios[name]):.1f}×)", va="center", fontsize=9, color="white")
    bound = measurements["images_per_step"] / measurements["roofline"]["seconds"]
    axes.axvline(bound, color=colors.VERMILION, linestyle="--")
    axes.text(bound, -0.75, f"roofline {bound:.0f} ", color=colors.VERMILION, ha="right", fontsize=9)
    axes.set(yticks=range(len(speeds)), yticklabels=list(speeds), xlabel="images/s", ylim=(len(speeds) - 0.4, -1))
    axes.set_xlim(0, 1.25 * max(bound, *(max(values) for values in speeds.values())))


def draw_parts(axes, measurements: dict) -> None:
    """A bar per part of the step: the median of its share."""
    shares = {part: np.median(values) for part, values in shares_of_step(measurements).items()}
    axes.barh(list(shares), list(shares.values()), color=PART_COLORS[: len(shares)])
    for row, share in enumerate(shares.values()):
        axes.text(max(share, 0) + 1, row, f"{share:.1f} %", va="center", fontsize=9)
    axes.set(xlabel="% of an eager step", xlim=(0, 115))
    axes.invert_yaxis()

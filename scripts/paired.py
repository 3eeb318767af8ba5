"""Compare a method with supervised over the same seeds: `python scripts/paired.py results/quickstart/*.json`.

Reads result.json files. A method is judged by the network it deploys (the last one of its `models`), supervised by its better
one on the mean over seeds, so that the choice favours the baseline. Prints mean ± standard deviation (n − 1) of `error_last`
and the paired difference with its 95 % interval (Student's t).
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats


def table(results: list[dict]) -> dict[str, dict[str, dict[int, float]]]:
    """error_last in percent by method, network and seed."""
    found = defaultdict(lambda: defaultdict(dict))
    for result in results:
        for network, scores in result["models"].items():
            found[result["names"]["method"]][network][result["seed"]] = 100 * scores["error_last"]
    return found


def better(networks: dict[str, dict[int, float]]) -> str:
    """The network with the smaller mean error."""
    return min(networks, key=lambda name: np.mean(list(networks[name].values())))


def paired(first: dict[int, float], second: dict[int, float]) -> tuple[float, float, float, int]:
    """Mean of second − first over the seeds both have, its 95 % interval, and their number."""
    seeds = sorted(first.keys() & second.keys())
    difference = np.array([second[s] - first[s] for s in seeds])
    half = stats.t.ppf(0.975, len(seeds) - 1) * difference.std(ddof=1) / np.sqrt(len(seeds))
    return difference.mean(), difference.mean() - half, difference.mean() + half, len(seeds)


def main(paths: list[str]) -> None:
    found = table([json.loads(Path(path).read_text()) for path in paths])
    for method, networks in found.items():
        for network, by_seed in networks.items():
            errors = np.array([by_seed[s] for s in sorted(by_seed)])
            print(f"{method:14} {network:8} {errors.mean():6.2f} ± {errors.std(ddof=1):.2f} %   {np.round(errors, 2)}")
    baseline = found["supervised"]
    reference = better(baseline)
    for method in sorted(found.keys() - {"supervised"}):
        deployed = list(found[method])[-1]
        mean, low, high, n = paired(found[method][deployed], baseline[reference])
        gain = f"{mean:.2f} points of error less, 95 % interval {low:.2f} to {high:.2f} (n = {n})"
        print(f"{method} ({deployed}) against supervised ({reference}): {gain}")


if __name__ == "__main__":
    main(sys.argv[1:])

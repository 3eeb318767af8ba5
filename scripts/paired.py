"""Compare two methods over the same seeds: `python scripts/paired.py results/quickstart/*.json`.

Reads result.json files of two methods. Each is judged by its better network on the mean of `error_last` over seeds, so the
baseline is not weakened by the choice. Prints mean ± standard deviation (n − 1) and the paired difference with its 95 %
interval (Student's t).
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
    (one, a), (two, b) = sorted(found.items())
    mean, low, high, n = paired(a[better(a)], b[better(b)])
    print(f"{two} {better(b)} − {one} {better(a)}: {mean:.2f} points, 95 % interval {low:.2f} to {high:.2f} (n = {n})")


if __name__ == "__main__":
    main(sys.argv[1:])

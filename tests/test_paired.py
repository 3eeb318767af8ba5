"""scripts/paired.py against numbers computed by hand."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from paired import better, paired, table  # noqa: E402


def result(method, seed, **errors):
    return {"names": {"method": method}, "seed": seed, "models": {n: {"error_last": e} for n, e in errors.items()}}


def test_the_better_network_is_compared_seed_by_seed():
    runs = [result("a", s, student=0.3, teacher=e) for s, e in enumerate((0.10, 0.12, 0.14))]
    runs += [result("b", s, student=e, average=0.5) for s, e in enumerate((0.20, 0.24, 0.22))]
    found = table(runs)
    assert (better(found["a"]), better(found["b"])) == ("teacher", "student")
    mean, low, high, n = paired(found["a"]["teacher"], found["b"]["student"])
    # differences 10, 12, 8: mean 10, standard deviation 2, t(.975, 2) = 4.302653
    assert (mean, n) == (pytest.approx(10), 3)
    assert (low, high) == (pytest.approx(10 - 4.302653 * 2 / 3**0.5), pytest.approx(10 + 4.302653 * 2 / 3**0.5))

"""Several devices for one run give what one gives, for every method; a lost process ends the others."""

import pytest
import torch
from conftest import options
from several_devices import configurations, in_processes, train

METHODS = options("method")
TOLERANCE = 2e-3
"""Of weights and losses after two steps, relative: VAT multiplies rounding errors by about 100 in each."""

WITHIN_A_ROUNDING_ERROR = {"weighting.learned"}
"""Tables of classes, where a prediction at a threshold may count in one run and not in another."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("several_devices")


@pytest.fixture(scope="module")
def chosen():
    return configurations(METHODS)


@pytest.fixture(scope="module")
def on_two(chosen, folder):
    """Every method, and one of them again, in two processes."""

    train(chosen["supervised"], folder / "one")  # imports what the processes need

    def work(ranks):
        runs = [*chosen.items(), ("again", chosen["mean_teacher"])]
        return {name: train(each, folder / "two", ranks) for name, each in runs}

    return in_processes(2, work, folder)


def assert_close(one: dict, other: dict, tolerance: float = TOLERANCE):
    assert one["losses"] == pytest.approx(other["losses"], rel=tolerance)
    assert one["evaluation"] == pytest.approx(other["evaluation"], abs=tolerance)
    assert list(one["state"]) == list(other["state"])
    for name, value in one["state"].items():
        if name not in WITHIN_A_ROUNDING_ERROR:
            scale = max(value.abs().max().item(), 0.1)
            torch.testing.assert_close(other["state"][name], value, rtol=0, atol=tolerance * scale, msg=name)


def assert_equal(one: dict, other: dict):
    assert one["losses"] == other["losses"] and one["evaluation"] == other["evaluation"]
    assert [name for name, value in one["state"].items() if not torch.equal(value, other["state"][name])] == []


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_what_one_gives(method, chosen, folder, on_two):
    first, second = on_two
    assert isinstance(first, dict), first
    assert_equal(first[method], second[method])
    assert_close(train(chosen[method], folder / "one"), first[method])


def test_two_processes_give_the_same_bits_again(on_two):
    assert_equal(on_two[0]["again"], on_two[0]["mean_teacher"])

"""Several devices for one run give what one gives, for every method; a lost process ends the others."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import options
from several_devices import configurations, in_processes, train

from meanteacher.comparison.results import read_run
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices, Settings
from meanteacher.runs import devices, run, run_files
from meanteacher.runs.result import Result
from meanteacher.training import signals
from meanteacher.training.checkpoint import Checkpoints
from meanteacher.training.finite import check_equal_weights
from meanteacher.training.ranks import LOST
from meanteacher.training.trainer import Trainer

METHODS = options("method")
TOLERANCE = 2e-3
"""Of weights and losses after two steps, relative: VAT multiplies rounding errors by about 100 in each."""

WITHIN_A_ROUNDING_ERROR = {"weighting.learned"}
"""Tables of classes, where a prediction at a threshold may count in one run and not in another."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("several_devices")


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_files, "draw", lambda session: {})
        patch.setattr(run_files, "write_page", lambda session, result, path: None)
        yield


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


def test_in_pieces_the_bits_do_not_depend_on_the_number_of_processes(folder):
    pytest.importorskip("greenlet")
    chosen = configurations(["vat"], "trainer.elastic=bitwise")["vat"]  # of its forward passes, three have a gradient
    on_one = train(chosen, folder / "one")
    on_two = in_processes(2, lambda ranks: train(chosen, folder / "two", ranks), folder)
    assert_equal(on_one, on_two[0])
    assert_close(train(configurations(["vat"])["vat"], folder / "one"), on_one)


def train_all(count: int, configurations: dict[str, Settings], folder: Path) -> dict[str, dict]:
    """Every method in `count` processes, whose results are equal."""

    def work(ranks):
        return {name: train(each, folder / "all", ranks) for name, each in configurations.items()}

    first, *others = in_processes(count, work, folder)
    assert isinstance(first, dict), first
    for other in others:
        for name in configurations:
            assert_equal(first[name], other[name])
    return first


@pytest.mark.slow
def test_four_processes_give_what_one_gives(chosen, folder):
    on_four = train_all(4, chosen, folder)
    for name in METHODS:
        assert_close(train(chosen[name], folder / "one"), on_four[name])


@pytest.mark.slow
def test_every_method_is_elastic(folder):
    pytest.importorskip("greenlet")
    elastic = configurations(METHODS, "trainer.elastic=bitwise")
    on_two, on_four = (train_all(count, elastic, folder) for count in (2, 4))
    for name in METHODS:
        on_one = train(elastic[name], folder / "one")
        assert_equal(on_one, on_two[name])
        assert_equal(on_one, on_four[name])


@pytest.fixture(scope="module")
def run_on_one(folder, chosen):
    """The result of a run on one device."""
    return run.run(chosen["mean_teacher"], Choices(), folder / "run_on_one", "command", False)


def stop_after(step: int, number: int, rank: int, patch: pytest.MonkeyPatch) -> None:
    """Send this process a signal after some steps if it has this rank."""
    take_step = Trainer.take_step

    def take_step_and_stop(trainer):
        take_step(trainer)
        if trainer.step == step and trainer.ranks.rank == rank:
            os.kill(os.getpid(), number)

    patch.setattr(Trainer, "take_step", take_step_and_stop)


def take_part_on_two(chosen: Settings, path: Path, folder: Path) -> list:
    """The signal that stopped the run in each of two processes, or None; `lost` where a process lost the other."""

    def work(ranks):
        devices.take_part(devices.Job(chosen, Choices(), path, "command", swept=True), ranks)
        return signals.last_signal

    return in_processes(2, work, folder)


def final_state(path: Path) -> dict:
    return Checkpoints(path, Result.read(path / "result.json").digest).load(torch.device("cpu"))["method"]


def assert_same_run(path: Path, other: Path):
    for name, value in final_state(path).items():
        torch.testing.assert_close(value, final_state(other)[name], rtol=0, atol=TOLERANCE, msg=name)


def test_a_signal_to_one_process_stops_both_and_one_device_goes_on(folder, chosen, run_on_one, monkeypatch):
    path = folder / "moved"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGTERM, 1, patch)
        assert take_part_on_two(chosen["mean_teacher"], path, folder) == [signal.SIGTERM, signal.SIGTERM]
    stopped = Result.read(path / "result.json")
    assert (stopped.status, stopped.steps, stopped.devices) == ("interrupted", 1, 2)
    finished = run.run(chosen["mean_teacher"], Choices(), path, "command", False)
    assert (finished.status, finished.devices, finished.bitwise) == ("finished", 1, False)
    assert finished.digest == run_on_one.digest and finished.models.keys() == run_on_one.models.keys()
    assert_same_run(path, folder / "run_on_one")


def test_a_process_that_loses_another_ends_and_both_go_on_later(folder, chosen, run_on_one, monkeypatch):
    path = folder / "lost"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGKILL, 1, patch)
        assert take_part_on_two(chosen["mean_teacher"], path, folder) == ["lost", None]
    lost = Result.read(path / "result.json")
    assert lost.status == "failed" and lost.reason == LOST
    assert take_part_on_two(chosen["mean_teacher"], path, folder) == [None, None]
    finished = Result.read(path / "result.json")
    assert (finished.status, finished.devices, finished.bitwise) == ("finished", 2, True)
    assert_same_run(path, folder / "run_on_one")
    assert take_part_on_two(chosen["mean_teacher"], path, folder) == [None, None], "reported, not repeated"


def test_a_killed_main_process_is_noticed_and_both_go_on_later(folder, chosen, run_on_one, monkeypatch):
    path = folder / "killed"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGKILL, 0, patch)
        assert take_part_on_two(chosen["mean_teacher"], path, folder) == [None, "lost"]
    assert Result.read(path / "result.json").status == "running"
    assert read_run(path / "result.json").status == "killed"
    assert take_part_on_two(chosen["mean_teacher"], path, folder) == [None, None]
    assert read_run(path / "result.json").status == "finished"
    assert_same_run(path, folder / "run_on_one")


def test_unequal_weights_are_told(folder):
    def work(ranks):
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, float(ranks.rank))
        with pytest.raises(UserError, match="different weights by step 7"):
            check_equal_weights([model], 7, ranks)
        return "told"

    assert in_processes(2, work, folder) == ["told", "told"]

"""Keys that were added later do not tell runs apart while they have their earlier value."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "comparison"))
from comparison_runs import result
from conftest import options, settings

from meanteacher.comparison.identity import protocol_fields, variant_fields
from meanteacher.comparison.settings import contrast, show
from meanteacher.config.added_keys import ADDED_KEYS, add_missing, drop_added
from meanteacher.config.digest import run_digest
from meanteacher.config.settings import Settings
from meanteacher.runs.result import Result


@pytest.mark.parametrize(("name", "value"), ADDED_KEYS.items())
def test_a_result_from_before_is_comparable_with_one_that_has_the_key(name, value):
    before, now = (Result.parse(result("fixmatch", 20, 0, 0.1, changes)) for changes in ({}, {name: value}))
    other = Result.parse(result("fixmatch", 20, 0, 0.1, {name: "another"}))
    both = [protocol_fields(r) | variant_fields(r) for r in (before, now, other)]
    assert both[0] == both[1] != both[2]
    shown = contrast([both[0], both[2]], [before.choices, other.choices])
    assert shown[0][name] == show(value), "the value that stands for the earlier result"


def test_the_digest_does_not_count_an_added_key_with_its_earlier_value():
    composed = Settings.parse(settings("model=wrn_10_1")).as_dict()
    without = {**composed, "model": {k: v for k, v in composed["model"].items() if k != "first_blocks"}}
    assert run_digest(without) == run_digest(composed)
    raw = Settings.parse(settings("model=wrn_10_1", "model.first_blocks=raw")).as_dict()
    assert run_digest(raw) != run_digest(composed)


def test_without_weights_their_normalization_does_not_count():
    def digest(*overrides: str, drop: bool = False) -> str:
        composed = Settings.parse(settings("model=torchvision", *overrides)).as_dict()
        if drop:
            del composed["model"]["normalization"]
        return run_digest(composed)

    assert digest() == digest("model.normalization=data") == digest(drop=True)
    by_data = digest("model.weights=w.pth", "model.normalization=data")
    assert by_data == digest("model.weights=w.pth", drop=True) != digest("model.weights=w.pth")


def test_every_added_key_exists():
    nodes = [settings(f"method={method}") for method in options("method")]
    nodes += [
        settings("model=torchvision", "model.weights=w.pth", "model.normalization=data"),
        settings("dataset=image_folder", "dataset.root=photos"),
    ]
    for name, value in ADDED_KEYS.items():
        assert any(drop_added(node) != node and holds(node, name.split("."), value) for node in nodes), name


@pytest.mark.parametrize("method", options("method"))
def test_a_stored_run_from_before_gets_the_keys_that_its_classes_take_by_now(method):
    now = settings(f"method={method}", "dataset=image_folder", "dataset.root=photos", "model=wrn_10_1")
    before = drop_added(now)
    assert before["dataset"] != now["dataset"] and before["model"] != now["model"]
    completed = add_missing(before)
    assert all(completed[group] == now[group] for group in ("dataset", "model", "method"))


def holds(node: dict, path: list[str], value) -> bool:
    for part in path[:-1]:
        node = node.get(part) or {}
    return node.get(path[-1], ...) == value


def test_a_view_for_one_method_counts_for_it_alone():
    def composed(method: str, *overrides: str) -> dict:
        return Settings.parse(settings("augment=digits", f"method={method}", *overrides)).as_dict()

    def without_medium(chosen: dict) -> dict:
        views = {name: view for name, view in chosen["augment"]["views"].items() if name != "medium"}
        return chosen | {"augment": chosen["augment"] | {"views": views}}

    weaker = "augment.views.medium.randaugment.probability=0.1"
    for method, counts in (("fixmatch", False), ("sequencematch", True)):
        chosen = composed(method)
        assert (run_digest(chosen) != run_digest(without_medium(chosen))) == counts
        assert (run_digest(chosen) != run_digest(composed(method, weaker))) == counts
    results = [
        Result.parse(result(method, 20, 0, 0.1) | {"settings": composed(method, *more)})
        for method, *more in (("fixmatch",), ("sequencematch",), ("sequencematch", weaker))
    ]
    protocols = [protocol_fields(r) for r in results]
    assert protocols[0] == protocols[1] == protocols[2]
    assert variant_fields(results[1]) != variant_fields(results[2])
    own = composed("fixmatch")
    own["method"] = own["method"] | {"_target_": "mine.Own"}
    assert run_digest(own) != run_digest(without_medium(own)), "it may use the view"

"""Every recipe does what docs/recipe_facts says that it does, and the table names its sources and what differs."""

import re
from functools import lru_cache
from typing import Any

import pytest
import torch
import yaml
from conftest import OWN_EXPERIMENTS, ROOT, options
from recipe_measures import MEASURES, SCHEDULES, Recipe

FACTS = ROOT / "docs" / "recipe_facts"
RECIPES = [name for name in options("experiment") if name not in OWN_EXPERIMENTS]
NAMES = [*SCHEDULES, *MEASURES]
PLACE = re.compile(r"[\w.-]+/[\w.-]+@([0-9a-f]{7}|\d+\.\d+\.\d+) [\w./-]+:(\d+-\d+|[A-Za-z_]\w*)")


@lru_cache
def read_facts(name: str) -> dict[str, dict[str, Any]]:
    return {fact["name"]: fact for fact in yaml.safe_load((FACTS / f"{name}.yaml").read_text())["facts"]}


def comparable(value: Any) -> Any:
    """The value with rounded numbers, at every depth."""
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(inner) for inner in value]
    number = isinstance(value, float | int) and not isinstance(value, bool)
    return float(f"{value:.4g}") if number else value


def test_every_recipe_has_facts():
    assert sorted(path.stem for path in FACTS.glob("*.yaml")) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_does_what_its_facts_say(name):
    recipe, facts = Recipe(name), read_facts(name)
    assert list(facts) == NAMES
    for fact in NAMES:
        ours = facts[fact]["ours"]
        measured = SCHEDULES[fact](recipe, list(ours)) if fact in SCHEDULES else MEASURES[fact](recipe)
        assert comparable(measured) == comparable(ours), fact
        assert fact not in SCHEDULES or len(ours) == 6


@pytest.mark.parametrize("name", RECIPES)
def test_facts_name_their_source_and_what_differs(name):
    for fact in read_facts(name).values():
        assert set(fact) - {"differs"} == {"name", "theirs", "ours", "source"}, fact["name"]
        assert all(PLACE.fullmatch(place) for place in fact["source"]), fact["source"]
        assert fact.get("differs") or comparable(fact["theirs"]) == comparable(fact["ours"]), fact["name"]


def test_converted_shake_shake_recipe_takes_the_steps_of_the_authors():
    """Every term divided by all 512 images, lr .2, decay 2e-4, weights 100 and .01, against the recipe's own values."""
    recipe = Recipe("paper_shake_shake_cifar10")
    (weight,) = SCHEDULES["consistency weight"](recipe, [5000]).values()
    distance = MEASURES["constants"](recipe)["logit distance weight"]
    start, a, b, c = torch.randn(4, 7)
    theirs, ours = (torch.nn.Parameter(start.clone()) for _ in range(2))
    (group,) = recipe.build_optimizer(torch.nn.Linear(2, 2)).param_groups
    shared = {"momentum": 0.9, "nesterov": True}
    pairs = (
        (theirs, torch.optim.SGD([theirs], lr=0.2, weight_decay=2e-4, **shared), (1 / 512, 100 / 512, 0.01 / 512)),
        (
            ours,
            torch.optim.SGD([ours], lr=group["lr"].item(), weight_decay=group["weight_decay"], **shared),
            (1 / 124, weight / 512, distance / 512),
        ),
    )
    for w, optimizer, factors in pairs:
        for _ in range(3):
            sums = ((w * a).sum().exp(), (w * b).sin().sum(), (w - c).square().sum())
            optimizer.zero_grad()
            sum(factor * term for factor, term in zip(factors, sums, strict=True)).backward()
            optimizer.step()
    assert torch.allclose(theirs, ours, rtol=1e-5)

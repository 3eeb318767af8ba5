"""Every recipe composes, is checked, says what was published and where, and is listed."""

import pytest
from conftest import CONF, options, settings

from meanteacher.comparison import recipes
from meanteacher.config.settings import Settings

RECIPES = [name for name in options("experiment") if name != "quickstart"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_and_its_values_are_valid(name):
    Settings.parse(settings(f"experiment={name}", "dataset=digits"))
    found = settings(f"experiment={name}")
    Settings.parse(found)
    assert found["steps"] >= 30_000


def test_every_recipe_is_listed_with_its_source(capsys):
    assert recipes.main() == 0
    printed = capsys.readouterr().out
    rows = {row["recipe"]: row for row in recipes.recipes()}
    assert set(rows) == set(RECIPES) and all(name in printed for name in RECIPES)
    assert all("%" in row["published"] and row["source"] for row in rows.values())
    assert rows["paper_shake_shake_cifar10"]["method"] == "mean_teacher_dual"
    assert rows["ict"]["command"] == "python run.py experiment=ict label=4000"


def test_values_tuned_for_a_recipe_belong_to_a_recipe_and_a_method():
    for path in (CONF / "tuned").glob("*.yaml"):
        experiment, _, method = path.stem.rpartition("-")
        assert experiment in options("experiment") and method in options("method")


def test_another_method_takes_a_recipes_protocol():
    found = settings("experiment=fixmatch", "method=supervised")
    assert found["trainer"]["unlabeled_batch"] == 448 and found["method"]["_target_"].endswith("Supervised")

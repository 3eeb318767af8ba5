"""Every recipe composes, passes the checks, and is listed with the numbers that it reproduces."""

import pytest
from conftest import OWN_EXPERIMENTS, options, settings

from meanteacher.comparison import recipes
from meanteacher.config.settings import Settings

RECIPES = [name for name in options("experiment") if name not in OWN_EXPERIMENTS]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_composes_and_its_values_are_valid(name):
    Settings.parse(settings(f"experiment={name}", "dataset=digits"))
    composed = settings(f"experiment={name}")
    Settings.parse(composed)
    assert composed["steps"] >= 30_000


def test_every_recipe_is_listed_with_published_numbers_and_source(capsys):
    assert recipes.main([]) == 0
    printed = capsys.readouterr().out
    rows = {row["recipe"]: row for row in recipes.list_recipes()}
    assert set(rows) == set(RECIPES) and all(name in printed for name in RECIPES)
    assert rows.pop("sequencematch")["published"] == recipes.NOT_READ
    assert all("%" in row["published"] and row["source"] for row in rows.values())
    assert rows["crmatch"]["published"].startswith(
        "4.67 ± 0.02 / 3.81 ± 0.16 % error at 250 / 4000 labels, best evaluation"
    )
    assert rows["paper_shake_shake_cifar10"]["method"] == "mean_teacher_dual"
    assert rows["ict"]["command"] == "python run.py experiment=ict label=4000"
    fixmatch = (
        "13.81 ± 3.37 / 5.07 ± 0.65 / 4.26 ± 0.05 % error at 40 / 250 / 4000 labels, median of the last 20 evaluations"
    )
    assert rows["fixmatch"]["published"] == fixmatch


def test_other_method_takes_the_protocol_of_a_recipe():
    composed = settings("experiment=fixmatch", "method=supervised")
    assert composed["trainer"]["unlabeled_batch"] == 448 and composed["method"]["_target_"].endswith("Supervised")

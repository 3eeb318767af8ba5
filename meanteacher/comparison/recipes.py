"""The command `meanteacher recipes`: the recipes in conf/experiment and the published numbers that they aim at."""

import argparse

import pandas as pd
from hydra import compose, initialize_config_dir
from tabulate import tabulate

from meanteacher.comparison.published import read_published, show_errors
from meanteacher.config.locations import CONF

COLUMNS = ("recipe", "method", "network", "data", "published", "source", "command")

SELECTIONS = {
    "last": "last evaluation",
    "median of 20": "median of the last 20 evaluations",
    "best on test": "best evaluation on the test part",
    "unstated": "evaluation not stated",
}
"""Which evaluation a published error is of, by the value of `selection` in published.csv."""

NOT_READ = "none whose source was read"
"""What stands for the published errors of a recipe without any in published.csv."""


def list_recipes() -> list[dict[str, str]]:
    """A row per recipe, with the numbers of the rows of published.csv that name it."""
    published = read_published()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [describe_recipe(name, published[published["recipe"] == name]) for name in recipe_names()]


def recipe_names() -> list[str]:
    """The options of `experiment` that follow a paper or its code.

    Experiments of this project have a folder in conf/tuned with the values that were tuned for them, and are left out.
    """
    tuned_here = {path.name for path in (CONF / "tuned").iterdir()}
    return sorted({path.stem for path in (CONF / "experiment").glob("*.yaml")} - tuned_here)


def describe_recipe(recipe: str, rows: pd.DataFrame) -> dict[str, str]:
    """One row of the list. rows: the recipe's rows of published.csv."""
    root = compose("config", [f"experiment={recipe}"], return_hydra_config=True)
    choices = root.hydra.runtime.choices
    series = rows.groupby(["source", "selection", "protocol"], sort=False)
    return {
        "recipe": recipe,
        "method": choices["method"],
        "network": choices["model"],
        "data": choices["dataset"],
        "published": "; ".join(describe_series(group) for _, group in series) or NOT_READ,
        "source": "; ".join(dict.fromkeys(rows["source"])),
        "command": f"python run.py experiment={recipe} label={root.label}",
    }


def describe_series(rows: pd.DataFrame) -> str:
    """`37.46 ± 3.30 / 8.10 ± 0.21 % error at 250 / 4000 labels, best evaluation on the test part`."""
    errors = " / ".join(show_errors(rows))
    labels = " / ".join(map(str, rows["label"]))
    first = rows.iloc[0]
    runs = "" if pd.isna(first["runs"]) else f", mean of {first['runs']} runs"
    return f"{errors} % error at {labels} labels, {SELECTIONS[first['selection']]}{runs}"


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    argparse.ArgumentParser(
        prog="meanteacher recipes", description="List the recipes and the published numbers that they aim at."
    ).parse_args(arguments)
    recipes = list_recipes()
    widths = [None, None, None, None, 44, 34, None]
    print(tabulate([[recipe[name] for name in COLUMNS] for recipe in recipes], COLUMNS, maxcolwidths=widths))
    print("\nThe published numbers were measured by their authors under their protocols.")
    print("`label=N` chooses another number of labels.")
    return 0

"""Every method has its section in the documents, and the numbers there are those of the files under results/."""

import re

import pandas as pd
import pytest
from conftest import ROOT, options

METHODS = options("method")


@pytest.fixture(scope="module")
def measured() -> dict[str, str]:
    """Each method's mean ± standard deviation over seeds of the last error of the network that is deployed, in %."""
    table = pd.read_csv(ROOT / "results" / "digits_methods" / "comparison.csv")
    found = 100 * table[table["deployed"]].groupby("method")["error_last"].agg(["mean", "std"])
    return {name: f"{mean:.1f} ± {std:.1f}" for name, mean, std in found.itertuples()}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented_with_its_own_numbers(name, measured):
    text = (ROOT / "docs" / "methods.md").read_text()
    section = re.search(rf"^(?:### |\*\*){name}\b.*?(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/methods.md has no section ### {name}"
    found = re.search(r"\*\*Ours\*\*\s+digits,\s+20\s+labels:\s+([\d.]+\s+±\s+[\d.]+)", section[0])
    assert found and " ".join(found[1].split()) == measured[name]


def test_the_table_of_the_digits_is_that_of_the_runs(measured):
    text = (ROOT / "results" / "digits_methods.md").read_text()
    rows = re.findall(r"^\| (\w+) \| \w+ \| ([\d.]+ ± [\d.]+) \|", text, flags=re.MULTILINE)
    assert dict(rows) == measured and len(rows) == len(METHODS)

"""The numbers in the documents are those of the files they come from, and the documents name what exists."""

import configparser
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, settings

DIGITS = ROOT / "results" / "digits_methods" / "comparison.csv"
MEASURED = sorted(pd.read_csv(DIGITS)["method"].unique())
"""The methods of this repository. A method that somebody adds needs no results and no section in the documents."""

ALIAS = {"mean_teacher_dual": "mean_teacher"}
"""Methods whose published numbers stand under the name of another method in published.csv."""


@pytest.fixture(scope="module")
def measured() -> dict[str, str]:
    """Mean ± standard deviation over seeds, in percent, of the last error of each method's deployed network."""
    table = pd.read_csv(DIGITS)
    statistics = 100 * table[table["deployed"]].groupby("method")["error_last"].agg(["mean", "std"])
    return {name: f"{mean:.1f} ± {std:.1f}" for name, mean, std in statistics.itertuples()}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    (file,) = (ROOT / "meanteacher").rglob("published.csv")
    return pd.read_csv(file, dtype=str)


def table_rows(document: str, columns: int) -> list[list[str]]:
    """The cells of every table row with this number of columns, without headings and rulers."""
    lines = (ROOT / document).read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ruler = {index for index, row in enumerate(rows) if set("".join(row)) <= {"-", ":"}}
    return [
        row for index, row in enumerate(rows) if len(row) == columns and index not in ruler and index + 1 not in ruler
    ]


@pytest.mark.parametrize("name", MEASURED)
def test_section_of_a_method_gives_its_measured_error(name, measured):
    text = (ROOT / "docs" / "methods.md").read_text()
    section = re.search(rf"^(?:### |\*\*){name}\b.*?(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/methods.md has no section ### {name}"
    error = re.search(r"\*\*Ours\*\*\s+digits,\s+20\s+labels:\s+([\d.]+\s+±\s+[\d.]+)", section[0])
    assert error and " ".join(error[1].split()) == measured[name]


def test_table_of_the_digits_gives_the_errors_of_the_runs(measured):
    text = (ROOT / "results" / "digits_methods.md").read_text()
    rows = re.findall(r"^\| (\w+) \| \w+ \| ([\d.]+ ± [\d.]+) \|", text, flags=re.MULTILINE)
    assert dict(rows) == measured and len(rows) == len(MEASURED)


def test_readme_table_gives_the_measured_and_the_published_errors(measured, published):
    rows = table_rows("README.md", columns=4)
    assert {row[0]: row[2] for row in rows} == measured and len(rows) == len(MEASURED)
    for method, _, _, cell in rows:
        match = re.fullmatch(
            r"(?P<error>[\d.]+)( ± (?P<std>[\d.]+))? \((?P<network>[^,]+), (?P<selection>[^)]+)\)( ¹)?", cell
        )
        mine = published[published["method"] == ALIAS.get(method, method)]
        if match is None:
            assert cell == "–" and mine[(mine["dataset"] == "cifar10") & (mine["label"] == "4000")].empty
            continue
        wanted = {"dataset": "cifar10", "label": "4000"} | match.groupdict()
        assert (mine[list(wanted)].fillna("") == pd.Series(wanted).fillna("")).all(axis=1).any(), (method, cell)


@pytest.mark.parametrize("document", ["README.md", "docs/index.md", "results/README.md"])
def test_comparison_of_supervised_and_mean_teacher_gives_the_errors_of_the_runs(document):
    table = pd.read_csv(ROOT / "results" / "digits" / "comparison.csv")
    statistics = 100 * table[table["deployed"]].groupby(["method", "label"])["error_last"].agg(["mean", "std"])
    labels = [40] if document == "README.md" else [20, 40, 80]
    text = (ROOT / document).read_text()
    for method in ("supervised", "mean_teacher"):
        for label in labels:
            mean, std = statistics.loc[(method, label)]
            assert f"{mean:.1f} ± {std:.1f}" in text, (method, label)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


@pytest.mark.parametrize(
    ("document", "columns", "folder"),
    [("docs/recipes.md", 4, "conf/experiment"), ("docs/comparing.md", 2, "sweeps/sweep")],
)
def test_page_lists_recipes_and_sweeps_that_exist(document, columns, folder):
    names = {row[0].strip("`") for row in table_rows(document, columns) if "." not in row[0]}
    assert names and names <= {path.stem for path in (ROOT / folder).glob("*.yaml")}


def test_badges_state_the_license_and_the_python_version_of_the_package():
    package = configparser.ConfigParser()
    package.read(ROOT / "setup.cfg")
    for name, value in (
        ("license", package["metadata"]["license"]),
        ("python", package["options"]["python_requires"].replace(">=", "≥ ")),
    ):
        badge = ElementTree.parse(ROOT / "docs" / "badges" / f"{name}.svg").getroot()
        assert badge.get("aria-label") == f"{name}: {value}"
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {package['metadata']['version']}\n" in citation
    assert f"license: {package['metadata']['license']}\n" in citation


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "examples/own_project/README.md"])
def test_links_of_documents_outside_of_the_site_lead_to_files(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if "actions/workflows" not in target:  # resolved by the host of the repository
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_list_follows_an_empty_line(path):
    """Without one, MkDocs shows the list as running text."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").split("\n")
        assert re.match(r"\s*([-*]|\d+\.) ", lines[0]) or not [x for x in lines if re.match(r"([-*]|\d+\.) ", x)]


def test_notebook_example_trains_and_gives_a_teacher(tmp_path, monkeypatch):
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(*TINY)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace("outputs/…/config.yaml", "config.yaml").replace('"steps": 500', '"steps": 6'), names)
    assert 0 <= names["measured"]["models"]["teacher"].error_last <= 1
    assert names["teacher"].state_dict()


def test_the_tables_of_results_are_those_of_the_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import result_tables

    assert result_tables.main(["--check"]) == 0

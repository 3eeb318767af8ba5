"""Published errors: the file, what a comparison shows of it, and the numbers that the documents quote."""

import csv
import re

import pytest
from comparison_runs import markdown, put, result, three_seeds
from conftest import ROOT

from meanteacher.comparison.command import compare
from meanteacher.comparison.published import FILE, read_published

METHODS = sorted({*read_published()["method"]} | {"mean_teacher_dual"})


def test_published_errors_are_shown_for_the_data_set_and_methods_that_were_run(tmp_path):
    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    data = {"name": "cifar10", "train": 50000, "test": 10000, "classes": 10}
    runs = [result("mean_teacher", n, 0, 0.1, cifar, data=data) for n in (250, 4000)]
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    report = markdown(tmp_path / "out")
    assert "21.55 ± 1.48" in report and "47.32" in report and "broken" in report, "of Mean Teacher on CIFAR-10"
    assert "46.43" not in report and "4.35 ± 0.50" not in report, "neither of supervised nor on SVHN"
    svg = (tmp_path / "out/comparison.svg").read_text()
    assert "mean_teacher, published: Berthelot et al. 2019" in svg and "56.06" not in svg
    compare([three_seeds(tmp_path / "digits")], tmp_path / "other")
    assert "Published" not in markdown(tmp_path / "other")


def test_published_file_is_well_formed():
    rows = list(csv.DictReader(FILE.open()))
    assert {row["dataset"] for row in rows} == {"cifar10", "cifar100", "svhn", "stl10"}
    assert {row["selection"] for row in rows} == {"last", "median of 20", "best on test", "unstated"}
    assert all(0 < float(row["error"]) < 100 and row["source"] and row["network"] for row in rows)
    assert all(row["label"] == "all" or int(row["label"]) for row in rows)
    identity = [tuple(row[k] for k in row if k not in ("error", "std", "runs")) for row in rows]
    assert len(identity) == len(set(identity))


@pytest.mark.parametrize("method", METHODS)
def test_every_published_number_in_the_documents_is_in_the_file(method):
    text = (ROOT / "docs" / "methods.md").read_text()
    section = re.search(rf"^(?:### |\*\*){method}\b.*?(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)[0]
    published = re.search(r"(?:\*\*Published\*\*|Published:).*?(?=\*\*Ours\*\*|\Z)", section, flags=re.DOTALL)[0]
    quoted = set(re.findall(r"(?<![\d.,])\d{1,2}\.\d{2}(?![\d.])", published))
    rows = read_published()
    rows = rows[rows["method"] == ("mean_teacher" if method == "mean_teacher_dual" else method)]
    known = {f"{value:.2f}" for column in ("error", "std") for value in rows[column].dropna()}
    assert quoted and quoted <= known, f"not in published.csv: {sorted(quoted - known)}"

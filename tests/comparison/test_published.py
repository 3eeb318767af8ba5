"""Published errors: the file, what a comparison shows of it, and the numbers that the documents quote."""

import csv
import math
import re

import pandas as pd
import pytest
from comparison_runs import markdown, put, result, three_seeds
from conftest import ROOT
from matplotlib.figure import Figure

from meanteacher.comparison.command import compare
from meanteacher.comparison.panels import draw_published_error
from meanteacher.comparison.pictures import draw
from meanteacher.comparison.protocols import group_runs
from meanteacher.comparison.published import FILE, published_for, read_published, show_errors
from meanteacher.comparison.results import find_runs
from meanteacher.comparison.statistics import compute_statistics

METHODS = sorted({*read_published()["method"]} | {"mean_teacher_dual"})


def test_published_errors_are_shown_for_the_data_set_and_methods_that_were_run(tmp_path):
    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    data = {"name": "cifar10", "train": 50000, "test": 10000, "classes": 10}
    runs = [result("mean_teacher", n, 0, 0.1, cifar, data=data) for n in (250, 4000)]
    compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    report = markdown(tmp_path / "out")
    assert "21.55 ± 1.48" in report and "47.32" in report and "broken" in report, "of Mean Teacher on CIFAR-10"
    assert "47.32 ± 4.71" in report and "49.85 |" in report, "with the deviation where that was read"
    assert "46.43" not in report and "4.35 ± 0.50" not in report, "neither of supervised nor on SVHN"
    svg = (tmp_path / "out/comparison.svg").read_text()
    assert "mean_teacher, published: Berthelot et al. 2019" in svg and "56.06" not in svg
    compare([three_seeds(tmp_path / "digits")], tmp_path / "other")
    assert "Published" not in markdown(tmp_path / "other")


def test_published_errors_are_shown_with_the_deviation_that_was_read():
    rows = pd.DataFrame({"error": [15.51, 2.0, 8.29], "std": [0.18, 0.005, math.nan]})
    assert show_errors(rows) == ["15.51 ± 0.18", "2.00 ± 0.01", "8.29"]


def test_picture_over_labels_has_bars_of_the_published_deviations(tmp_path):
    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    runs = find_runs([put(tmp_path, *[result("mean_teacher", n, 0, 0.1, cifar) for n in (250, 4000)])])
    protocols, places = group_runs(runs)
    figure = draw(protocols, compute_statistics(runs, protocols, places), published_for(protocols), "title")
    bars = [container.lines[2][0].get_segments() for axes in figure.axes for container in axes.containers]
    assert bars and all(
        [(high + low) / 2 for (_, low), (_, high) in segments] == pytest.approx([47.32, 10.36])
        and [(high - low) / 2 for (_, low), (_, high) in segments] == pytest.approx([4.71, 0.25])
        for segments in bars
    )


@pytest.mark.parametrize(("deviation", "bands"), [(4.0, [(13.32, 21.32)]), (math.nan, [])])
def test_picture_of_one_point_has_a_band_of_the_published_deviation(deviation, bands):
    axes = Figure().subplots()
    about = {"source": "S (url)", "network": "WRN-28-2", "selection": "last"}
    draw_published_error(axes, 0, "a", pd.DataFrame([{"error": 17.32, "std": deviation, **about}]), "red")
    extents = [path.get_extents() for band in axes.collections for path in band.get_paths()]
    assert [(extent.x0, extent.x1) for extent in extents] == [pytest.approx(band) for band in bands]
    assert list(axes.lines[0].get_xdata()) == [17.32, 17.32]


def test_published_file_is_well_formed():
    rows = list(csv.DictReader(FILE.open()))
    assert {row["dataset"] for row in rows} == {"cifar10", "cifar100", "svhn", "stl10"}
    assert {row["selection"] for row in rows} == {"last", "median of 20", "best on test", "unstated"}
    assert all(0 < float(row["error"]) < 100 and row["source"] and row["network"] for row in rows)
    assert all(row["label"] == "all" or int(row["label"]) for row in rows)
    assert all(row["std"] == "" or 0 < float(row["std"]) < float(row["error"]) for row in rows)
    read_whole = [row for row in rows if row["source"].startswith(("USB 0.3.0", "TorchSSL"))]
    assert len(read_whole) > 50 and all(row["std"] and row["runs"] == "3" for row in read_whole)
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

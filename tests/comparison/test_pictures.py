"""The picture of a comparison."""

import pytest
from comparison_runs import put, result

from meanteacher.comparison.command import compare
from meanteacher.comparison.panels import start_at_zero
from meanteacher.comparison.pictures import draw
from meanteacher.comparison.protocols import group_runs
from meanteacher.comparison.published import published_for
from meanteacher.comparison.results import find_runs
from meanteacher.comparison.statistics import compute_statistics


def runs_over_weights(*weights: float) -> list[dict]:
    return [
        result("mean_teacher", 20, s, 0.2, {"method.weight": w, "method.decay": d})
        for w in weights
        for d in (0.9, 0.99)
        for s in (0, 1)
    ]


@pytest.mark.parametrize(
    ("runs", "axis"),
    [
        (runs_over_weights(0, 1, 10), "weight"),
        (runs_over_weights(-1, 1, 10), "weight"),
        (runs_over_weights(1, 10), "error (%); filled"),
        ([result("supervised", n, s, 0.2) for n in (20, 50, "all") for s in (0, 1)], "labeled images"),
        ([result("a", 20, s, 0.2, {"steps": n}) for n in (1, 2) for s in (0, 1)], "A: steps=1"),
        ([result("a", "all", 0, 0.0)], "error (%); filled"),
    ],
)
def test_kind_of_picture_fits_the_runs(tmp_path, runs, axis):
    comparison = compare([put(tmp_path / "runs", *runs)], tmp_path / "out")
    assert axis in comparison.files["comparison.svg"].read_text()
    assert all(path.stat().st_size > 5000 for path in comparison.pictures)


def test_labels_of_neighboring_panels_do_not_overlap(tmp_path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    methods = ("supervised", "mean_teacher", "vat")
    runs = find_runs([put(tmp_path, *[result(method, 4000, s, 0.1, cifar) for method in methods for s in (0, 1)])])
    protocols, places = group_runs(runs)
    figure = draw(protocols, compute_statistics(runs, protocols, places), published_for(protocols), "title")
    FigureCanvasAgg(figure).draw()
    left, right = (axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_xlabel())
    assert left.x1 < right.x0


def test_a_panel_with_larger_errors_than_the_one_before_it_is_shown_whole():
    from matplotlib.figure import Figure

    first, second = Figure().subplots(1, 2, sharey=True)
    for axes, top in ((first, 20.0), (second, 35.0)):
        axes.plot([0, 1], [10.0, top])
        start_at_zero(axes)
    assert first.get_ylim() == second.get_ylim() == (0, pytest.approx(36.75))

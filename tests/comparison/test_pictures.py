"""The picture of a comparison."""

import pytest
from comparison_runs import put, result

from meanteacher.comparison.command import compare
from meanteacher.comparison.panels import start_at_zero


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


def test_a_panel_with_larger_errors_than_the_one_before_it_is_shown_whole():
    from matplotlib.figure import Figure

    first, second = Figure().subplots(1, 2, sharey=True)
    for axes, top in ((first, 20.0), (second, 35.0)):
        axes.plot([0, 1], [10.0, top])
        start_at_zero(axes)
    assert first.get_ylim() == second.get_ylim() == (0, pytest.approx(36.75))

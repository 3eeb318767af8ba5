"""The pictures of a run: each is a PNG file of a readable size, also for unusual inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from meanteacher.runs import fonts, plots
from meanteacher.runs.pictures import draw_pictures, spread_over_classes

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that the test saves."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def check(path: Path, expected: Path) -> tuple[int, int]:
    """Width and height of a picture that was saved at the expected path and is not empty."""
    assert path == expected
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.min() < 100 and (pixels.max(axis=2) == 255).any(), "nothing is drawn"
    return pixels.shape[1], pixels.shape[0]


def record(step: int, parts: tuple[str, ...] = ("test",), models: tuple[str, ...] = ("student", "teacher")) -> dict:
    metrics = {"step": step, "train/loss": 2 / step, "train/supervised": 1 / step, "train/consistency": 0.01}
    for part in parts:
        for number, model in enumerate(models):
            error = 0.2 + 0.5 / step + 0.1 * number
            metrics |= {
                f"{part}/{model}/error": error,
                f"{part}/{model}/ece": 0.1,
                f"{part}/{model}/cross_entropy": 1.0,
            }
    return metrics


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_learning_curves(tmp_path, drawn):
    history = [record(step, ("test", "validation")) if step % 5 == 0 else record(step, ()) for step in range(1, 51)]
    history[3]["train/consistency_weight"] = 100.0
    path = tmp_path / "curves.png"
    width, height = check(plots.learning_curves(history, path, "a title"), path)
    assert width > height > 400
    (figure,) = drawn
    error, loss, ece = figure.axes
    assert figure.get_suptitle() == "a title" and not any(axes.get_title() for axes in figure.axes)
    assert [axes.get_ylabel() for axes in figure.axes] == ["error (%)", "training loss", "calibration error, ECE (%)"]
    assert legend(error)[:2] == ["student, test (last: 21.0 %)", "teacher, test (last: 31.0 %)"]
    assert [line.get_linestyle() for line in error.lines] == ["-", "-", "--", "--"]
    colors = [line.get_color() for line in error.lines]
    assert colors[:2] == colors[2:] and colors[0] != colors[1]
    assert colors == [line.get_color() for line in ece.lines]
    assert list(error.lines[0].get_xdata()) == list(range(5, 51, 5))
    assert error.lines[0].get_ydata()[0] == pytest.approx(30)
    terms = ["supervised (unweighted)", "consistency (unweighted)"]
    assert legend(loss) == ["loss (weighted sum)", *terms] and loss.get_yscale() == "log"


def test_title_of_learning_curves_is_at_the_left_edge_of_the_figure(tmp_path, drawn):
    plots.learning_curves([record(7)], tmp_path / "curves.png", "a title")
    title = drawn[0]._suptitle
    assert title.get_horizontalalignment() == "left" and title.get_position()[0] < 0.05


def test_total_loss_is_visible_below_an_equal_term(tmp_path, drawn):
    plots.learning_curves([{"step": 7, "train/loss": 1.0, "train/supervised": 1.0}], tmp_path / "curves.png", "a title")
    total, term = drawn[0].axes[0].lines
    assert total.get_linewidth() > 3 * term.get_linewidth() and total.get_zorder() < term.get_zorder()


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (200, [0, 40, 80, 120, 160, 200]),
        (1500, [0, 300, 600, 900, 1200, 1500]),
        (1550, [0, 400, 800, 1200, 1550]),
        (1, [0, 1]),
        (2**20, [0, 250_000, 500_000, 750_000, 2**20]),
    ],
)
def test_last_step_has_a_tick(tmp_path, drawn, last, ticks):
    plots.learning_curves([record(last)], tmp_path / "curves.png", "a title")
    assert all(list(axes.get_xticks()) == ticks for axes in drawn[0].axes)


def test_learning_curves_show_the_pseudo_labels(tmp_path, drawn):
    scores = {"train/pseudo_label_precision": 0.9, "train/pseudo_label_weighted_coverage": 0.25}
    history = [record(1), record(2) | {"train/pseudo_label_weighted_coverage": 0.0}, record(3) | scores]
    plots.learning_curves(history, tmp_path / "curves.png", "a title")
    panel = drawn[0].axes[-1]
    assert panel.get_ylabel() == "pseudo-labels (%)"
    assert legend(panel) == ["weighted coverage (last: 25.0 %)", "precision (last: 90.0 %)"]


@pytest.mark.parametrize(
    ("history", "panels"),
    [
        ([record(7)], 3),
        ([{"step": 7, "train/loss": 1.0}], 1),
        ([{"step": 7, "test/student/error": 0.0}], 1),
        ([{"step": 7, "train/loss": 0.0}, {"step": 8, "train/loss": None, "test/student/error": float("nan")}], 1),
        ([record(7, ("test", "validation"), ("student", "average", "a", "b", "c", "d", "e", "f"))], 3),
        ([], 4),
    ],
    ids=["one record", "no evaluation", "no loss", "nothing finite", "many networks", "nothing"],
)
def test_learning_curves_of_incomplete_histories(tmp_path, drawn, history, panels):
    path = tmp_path / "curves.png"
    check(plots.learning_curves(history, path, "a title"), path)
    assert len(drawn[0].axes) == panels


def test_teacher_and_average_have_the_same_color(tmp_path, drawn):
    for model in ("teacher", "average"):
        plots.learning_curves([record(7, models=("student", model))], tmp_path / "curves.png", "a title")
    first, second = ([line.get_color() for line in figure.axes[0].lines] for figure in drawn)
    assert first == second


def test_confusion_matrix(tmp_path, drawn):
    targets = np.array([0, 0, 0, 0, 1, 1, 2])
    predictions = np.array([0, 0, 0, 2, 1, 1, 0])
    path = tmp_path / "confusion.png"
    check(plots.confusion_matrix(predictions, targets, ["cat", "dog", "owl", "never"], path, "a title"), path)
    axes = drawn[0].axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "75",
        (2, 0): "25",
        (1, 1): "100",
        (0, 2): "100",
    }, "(predicted, true): percent of the true class"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl", "never"]


def test_confusion_matrix_of_many_classes(tmp_path, drawn):
    targets = np.arange(1000) % 100
    path = tmp_path / "confusion.png"
    width, height = check(
        plots.confusion_matrix(np.roll(targets, 1), targets, [f"class {i}" for i in range(100)], path, "a title"), path
    )
    assert min(width, height) > 1500, "the names of the classes would not be readable"
    assert not drawn[0].axes[0].texts


@pytest.mark.parametrize(
    ("n", "columns", "grid", "channels", "dtype"),
    [
        (7, 3, (3, 3), 3, np.uint8),
        (2, 10, (1, 2), 1, np.uint8),
        (1, 1, (1, 1), 3, np.float32),
        (2, 2, (1, 2), 1, np.float32),
        (0, 4, (1, 1), 3, np.uint8),
    ],
)
def test_image_sheet(tmp_path, drawn, n, columns, grid, channels, dtype):
    scale = 255 if dtype == np.uint8 else 1.2
    images = (np.random.default_rng(0).random((n, channels, 8, 12)) * scale).astype(dtype)
    path = tmp_path / "sheet.png"
    check(plots.image_sheet(images, [f"caption {i}" for i in range(n)], path, "a title", columns), path)
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == [f"caption {i}" for i in range(n)]
    (shown,) = axes.images
    rows, cells = grid
    canvas = np.atleast_3d(shown.get_array())
    high, wide = canvas.shape[0] // rows, canvas.shape[1] // cells
    assert shown.get_interpolation() == "nearest" and high > 8 and wide > 12
    expected = images / 255 if dtype == np.uint8 else images.clip(0, 1)
    for k, image in enumerate(expected):
        top, left = k // cells * high, k % cells * wide
        np.testing.assert_allclose(canvas[top : top + 8, left : left + 12], image.transpose(1, 2, 0), rtol=1e-6)
        x, y = axes.texts[k].get_position()
        assert left < x < left + 12 and top + 7 < y < top + high, "the caption belongs to another image"


@pytest.mark.parametrize("channels", [1, 3])
def test_view_sheet(tmp_path, drawn, channels):
    originals = np.random.default_rng(0).integers(0, 256, (4, channels, 8, 8), dtype=np.uint8)
    weak = (originals / 255 - 0.4) / 0.25
    weak[0, 0, 0, 0] = 1000
    views = {"weak": weak, "strong": 100 * weak.astype(np.float32), "flat": np.full_like(weak, 3.0)}
    path = tmp_path / "views.png"
    check(plots.view_sheet(originals, views, path, "a title"), path)
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["original", "weak", "strong", "flat"]
    canvas = np.asarray(axes.images[0].get_array())
    columns = [np.stack([canvas[9 * row : 9 * row + 8, 9 * k : 9 * k + 8] for row in range(4)]) for k in range(4)]
    np.testing.assert_allclose(columns[0], originals.transpose(0, 2, 3, 1).reshape(columns[0].shape) / 255, rtol=1e-6)
    _, weak, strong, _ = columns
    np.testing.assert_allclose(weak, strong, atol=1e-5)
    assert weak.min() == 0 and weak.max() == 1 and 0.4 < weak.mean() < 0.6, "one bright pixel must not darken the rest"


def test_names_of_other_scripts_need_a_font_that_has_them(monkeypatch):
    """Cyrillic is in the default font. A script that no font has is replaced by a number; a formula is not read."""
    families, names = fonts.choose_fonts(["красный", "a$b$"])
    assert families == ["DejaVu Sans"] and names == ["красный", r"a\$b\$"]
    real = fonts.characters
    monkeypatch.setattr(fonts, "characters", lambda path: real(path) - set(map(ord, "猫")))
    assert fonts.choose_fonts(["dog", "猫"])[1] == ["dog", "1"]
    serif = {ord("猫")}
    monkeypatch.setattr(
        fonts, "characters", lambda path: real(path) | serif if "DejaVuSerif.ttf" in path else real(path) - serif
    )
    assert fonts.choose_fonts(["dog", "猫"]) == (["DejaVu Sans", "DejaVu Serif"], ["dog", "猫"])


def test_sheets_show_every_class_first():
    targets = np.array([2, 0, 0, 1, 0, 2, 1])
    positions = np.array([1, 2, 4, 3, 0, 5])
    assert spread_over_classes(positions, targets).tolist() == [1, 3, 0, 2, 5, 4]
    assert spread_over_classes(positions[:0], targets).tolist() == []


def test_pictures_of_classes_in_folder_order_show_all_of_them(tmp_path, drawn, blobs):
    order = np.argsort(blobs.train.targets, kind="stable")
    draw_pictures(
        tmp_path / "plots",
        title="t",
        data=replace(blobs, classes=["a", "b", "红色", "d"]),
        labeled=order[:120],
        history=[record(1)],
        network="teacher",
        predictions=blobs.test.targets,
        draw_views=lambda images: {"weak": images / 255},
    )
    captions = [text.get_text() for text in drawn[2].axes[0].texts]
    names = ["a", "b", fonts.choose_fonts(["", "", "红色"])[1][2]]
    assert captions[:6] == names * 2 and len(captions) == 40

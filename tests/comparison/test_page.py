"""The page of a comparison, in a real browser where there is one."""

import re
from pathlib import Path

from browser import needs_browser, rendered
from comparison_runs import failed, markdown, put, result

from meanteacher.comparison.command import compare


def sorted_methods(page: Path, profile: Path, clicks: str) -> tuple[list[str], str]:
    """The first table's methods (of deployed networks) after clicks on columns, and the HTML of its headers."""
    script = f"for (const i of [{clicks}]) document.querySelectorAll('th button')[i].click();"
    table = re.search(r"<table>.*?</table>", rendered(page, profile, script), re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    methods = [re.search(r"(m\d)", row)[1] for row in rows if "teacher" in row]
    return methods, re.search(r"<thead>.*?</thead>", table, re.DOTALL)[0]


@needs_browser
def test_click_sorts_by_number_with_missing_values_last(tmp_path):
    errors = {"m1": (0.125, 0.09), "m2": (0.095, 0.07), "m3": (0.30, None), "m4": (0.11, 0.25)}
    runs = [
        result(method, label, seed, error + seed / 100)
        for method, both in errors.items()
        for label, error in zip((20, 50), both, strict=True)
        for seed in (0, 1)
        if error is not None
    ]
    page = compare([put(tmp_path / "runs", *runs)], tmp_path / "out").files["comparison.html"]
    before, head = sorted_methods(page, tmp_path / "a", "")
    assert before == ["m1", "m2", "m3", "m4"] and "aria-sort" not in head
    # 10.0, 11.5, 13.0 and 30.5 have the same order as text and as numbers; 7.5 and 25.5 of the second column do not
    once, head = sorted_methods(page, tmp_path / "b", "3")
    assert once == ["m2", "m1", "m4", "m3"] and head.count('aria-sort="ascending"') == 1
    twice, head = sorted_methods(page, tmp_path / "c", "3, 3")
    assert twice == ["m4", "m1", "m2", "m3"] and 'aria-sort="descending"' in head
    other, head = sorted_methods(page, tmp_path / "d", "3, 0, 2")
    assert other == ["m2", "m4", "m1", "m3"] and head.count("aria-sort") == 1
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.read_text()), "the page needs no network"


@needs_browser
def test_tables_fit_a_window_of_1300_pixels(tmp_path):
    cifar = {"dataset.name": "cifar10", "model.depth": 28, "model.width": 2}
    data = {"name": "cifar10", "train": 50000, "test": 10000, "classes": 10}
    methods = ("supervised", "mean_teacher")
    runs = [result(method, label, 0, 0.1, cifar, data=data) for method in methods for label in (250, 4000)]
    page = compare([put(tmp_path / "runs", *runs)], tmp_path / "out").files["comparison.html"]
    script = "for (const box of document.querySelectorAll('.scroll')) box.title = box.scrollWidth - box.clientWidth;"
    hidden = re.findall(r'class="scroll" title="(-?\d+)"', rendered(page, tmp_path / "profile", script))
    assert len(hidden) >= 4 and set(hidden) == {"0"}, "pixels of each table that are cut off"


def test_names_and_reasons_are_escaped(tmp_path):
    runs = put(tmp_path / "runs", result("<b>x</b>|$a$", 20, 0, 0.1), failed("a", 1, "<script>alert(1)</script>"))
    compare([runs], tmp_path / "out", '<i>"title"</i>')
    page = (tmp_path / "out/comparison.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;x&lt;/b&gt;|$a$" in page
    assert "<script>alert" not in page and "<i>" not in page and "&lt;i&gt;" in page
    assert "<b>" not in markdown(tmp_path / "out").split("```")[0] and "&lt;b>x&lt;/b>\\|$a$" in markdown(
        tmp_path / "out"
    )

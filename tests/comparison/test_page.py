"""The page of a comparison in a real browser: a click on a column's name sorts its table."""

import re
import shutil
import subprocess

import pytest
from comparison_runs import failed, markdown, put, result

from meanteacher.comparison.command import compare

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000", "--dump-dom"),
]


def order(page, profile, clicks: str) -> tuple[list[str], str]:
    """The first table's methods (of the deployed networks) after some clicks on columns, and its headers' HTML."""
    script = f"<script>for (const i of [{clicks}]) document.querySelectorAll('th button')[i].click();</script>"
    clicked = page.with_name(f"clicked-{profile.name}.html")
    clicked.write_text(page.read_text().replace("</body>", script + "</body>"))
    command = [BROWSER, *QUIET, f"--user-data-dir={profile}", clicked.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    table = re.search(r"<table>.*?</table>", dom, re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [re.search(r"(m\d)", row)[1] for row in rows if "teacher" in row], re.search(
        r"<thead>.*?</thead>", table, re.S
    )[0]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_a_click_sorts_by_number_with_missing_last(tmp_path):
    errors = {"m1": (0.125, 0.09), "m2": (0.095, 0.07), "m3": (0.30, None), "m4": (0.11, 0.25)}
    runs = [
        result(method, label, seed, error + seed / 100)
        for method, both in errors.items()
        for label, error in zip((20, 50), both, strict=True)
        for seed in (0, 1)
        if error is not None
    ]
    page = compare([put(tmp_path / "runs", *runs)], tmp_path / "out").files["comparison.html"]
    before, head = order(page, tmp_path / "a", "")
    assert before == ["m1", "m2", "m3", "m4"] and "aria-sort" not in head
    # as text 10.0, 11.5, 13.0 and 30.5 would come in the same order as by number, so the second column's 7.5 and 25.5 count
    once, head = order(page, tmp_path / "b", "3")
    assert once == ["m2", "m1", "m4", "m3"] and head.count('aria-sort="ascending"') == 1
    twice, head = order(page, tmp_path / "c", "3, 3")
    assert twice == ["m4", "m1", "m2", "m3"] and 'aria-sort="descending"' in head
    other, head = order(page, tmp_path / "d", "3, 0, 2")
    assert other == ["m2", "m4", "m1", "m3"] and head.count("aria-sort") == 1
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.read_text()), "the page needs no network"


def test_names_and_reasons_are_escaped(tmp_path):
    runs = put(tmp_path / "runs", result("<b>x</b>|$a$", 20, 0, 0.1), failed("a", 1, "<script>alert(1)</script>"))
    compare([runs], tmp_path / "out", '<i>"title"</i>')
    page = (tmp_path / "out/comparison.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;x&lt;/b&gt;|$a$" in page
    assert "<script>alert" not in page and "<i>" not in page and "&lt;i&gt;" in page
    assert "<b>" not in markdown(tmp_path / "out").split("```")[0] and "&lt;b>x&lt;/b>\\|$a$" in markdown(
        tmp_path / "out"
    )

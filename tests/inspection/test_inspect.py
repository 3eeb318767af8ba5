"""The command `meanteacher inspect`, from its arguments to the page."""

import re
import shutil
import subprocess

import pytest
from photo_cases import SPEED, draw, fill, save, write_folder

from meanteacher.config.cli import main
from meanteacher.inspection import timing, weights

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000", "--dump-dom"),
]
EVIL = "<script>alert(1)&amp;"


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Nothing is timed, no weights are looked for, and the working folder is empty."""
    monkeypatch.setattr(timing, "measure_speed", lambda *_, **__: SPEED)
    monkeypatch.setattr(weights, "find_cached_weights", lambda **_: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def failure(capsys, *arguments):
    assert main(["inspect", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_text_and_page_tell_the_same(tmp_path, capsys):
    root = write_folder(tmp_path / "photos")
    fill(root, f"train/{EVIL}", 3, 700)
    assert main(["inspect", str(root)]) == 0
    text, page = capsys.readouterr().out, (tmp_path / "here/inspect.html").read_text()
    for expected in ("3 classes, 19 labeled, 8 unlabeled and 4 test images", "ёж", "2500"):
        assert expected in text and expected in page
    assert "train/owl/11.jpg" in text and "train/owl/11.jpg" in page and "truncated" in page
    assert "meanteacher train dataset=image_folder" in text and "meanteacher train dataset=image_folder" in page
    assert "<script" not in page and "&lt;script&gt;alert(1)&amp;amp;" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import""", page), "the page needs no other file"
    assert page.count("<img") >= 11 + 5 + 3 - 2 + 8 and "data:image/png;base64," in page


def test_an_existing_page_is_kept_without_force(tmp_path, capsys):
    root = write_folder(tmp_path / "photos")
    (tmp_path / "out").mkdir()
    page = tmp_path / "out/inspect.html"
    page.write_text("mine")
    assert "--force" in failure(capsys, root, "--out", tmp_path / "out") and page.read_text() == "mine"
    assert main(["inspect", str(root), "--out", str(tmp_path / "out"), "--force"]) == 0
    assert page.read_text().startswith("<!doctype html>") and [x.name for x in page.parent.iterdir()] == [page.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing does not exist"),
        (["empty"], "has no images in class folders"),
        (["single"], "one class only"),
        (["photos", "--image-size", "3"], "--image-size=3: must be from 8 to 4096"),
        (["photos", "--image-size", "x"], "invalid int value"),
        (["photos", "--minutes", "0"], "--minutes=0"),
        (["photos", "--out", "photos/train/a/0.jpg"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty/train").mkdir(parents=True)
    fill(tmp_path, "single/train/a", 2, 0)
    fill(tmp_path, "photos/train/a", 2, 0), fill(tmp_path, "photos/train/b", 2, 10)
    assert message in failure(capsys, *arguments)
    assert not (tmp_path / "inspect.html").exists()


def test_names_that_a_terminal_cannot_show_are_replaced(tmp_path, capsys):
    root = write_folder(tmp_path / "photos")
    save(root / "train/owl/line\nbreak.jpg", draw(900)).write_bytes(b"")
    try:
        (root / b"train/owl/raw\xff.jpg".decode("utf-8", "surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert main(["inspect", str(root)]) == 0
    assert "line\N{REPLACEMENT CHARACTER}break.jpg" in capsys.readouterr().out
    assert "raw\N{REPLACEMENT CHARACTER}.jpg" in (tmp_path / "here/inspect.html").read_text(encoding="utf-8")


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_a_browser_shows_every_picture_and_cuts_nothing_off(tmp_path):
    assert main(["inspect", str(write_folder(tmp_path / "photos"))]) == 0
    page = tmp_path / "here/inspect.html"
    script = (
        "const broken = [...document.images].filter((image) => !image.complete || !image.naturalWidth).length;"
        "document.title = `broken ${broken} wide ${document.documentElement.scrollWidth - innerWidth}`;"
    )
    page.write_text(
        page.read_text().replace("</body>", f"<script>addEventListener('load', () => {{{script}}})</script>")
    )
    command = [BROWSER, *QUIET, "--window-size=500,900", f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.search(r"<title>broken 0 wide (-\d+|0)</title>", shown)

"""The page on reliability names tests that exist."""

import re

from conftest import ROOT


def test_every_test_on_the_page_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for path, function in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {function}(" in text if function else "def test_" in text, (path, function)

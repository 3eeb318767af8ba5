"""Pages in a real browser, for the tests of pages."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000", "--dump-dom"),
]

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")


def rendered(page: Path, profile: Path, script: str, width: int = 1300) -> str:
    """The HTML of the page after a browser window of this width has run the script."""
    scripted = page.with_name(f"{profile.name}.html")
    scripted.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [BROWSER, *QUIET, f"--window-size={width},900", f"--user-data-dir={profile}", scripted.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

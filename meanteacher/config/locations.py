"""Where the yaml files lie: inside the installed package, or at the top of a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def locate(packaged: str, checkout: str) -> Path:
    """A folder of yaml files: `packaged` inside the package if it is there, else `checkout` beside the package."""
    inside = PACKAGE / packaged
    return inside if inside.is_dir() else PACKAGE.parent / checkout


CONF = locate("conf", "conf")
"""Hydra's config groups."""

SWEEPS = locate("sweep_configs", "sweeps")
"""The sweeps, as a config group of their own."""

"""INTERIM"""

import importlib.util
from pathlib import Path


def module_file(module: str) -> Path | None:
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin)
    for p in parts:
        folder = path.parent if path.name == "__init__.py" else None
        if folder is None:
            return None
        path = folder / f"{p}.py"
        if not path.exists():
            path = folder / p / "__init__.py"
        if not path.exists():
            return None
    return path

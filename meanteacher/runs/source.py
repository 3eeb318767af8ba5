"""A digest of the source code that a run uses, so that a result made with other code is recognized."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from meanteacher.config.signatures import module_file

ROOT = "meanteacher.runs.session"
UNCOUNTED_ROOMS = ("meanteacher.loggers",)
"""Modules of this package that do not influence the numbers of a run."""

LIBRARIES = ("torch", "torchvision", "timm")
"""Packages whose versions the result records, so that their source does not count."""


def source_digest(settings: dict) -> str:
    """Ten hexadecimal digits over the source of every module of this package that a run with these settings imports.

    These are the modules of its `_target_`s, also those outside of this package, and what they import at module level.
    """
    files: dict[str, Path] = {}
    pending = [ROOT, *sorted({target.rpartition(".")[0] for target in targets(settings)})]
    while pending:
        module = pending.pop()
        if module in files or module.startswith(UNCOUNTED_ROOMS) or module.partition(".")[0] in LIBRARIES:
            continue
        if (path := module_file(module)) is None:
            continue
        files[module] = path
        pending += [name for name in imports(path) if name.startswith("meanteacher.")]
    digest = hashlib.blake2b(digest_size=5)
    for module, path in sorted(files.items()):
        digest.update(module.encode() + path.read_bytes())
    return digest.hexdigest()


def targets(node: object) -> Iterator[str]:
    """Every `_target_` in nested settings."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """The modules, and the names imported from packages, that a file imports at module level."""
    names: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)

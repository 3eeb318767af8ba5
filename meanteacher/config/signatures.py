"""Constructor signatures read from source files, without importing them or their packages."""

import ast
import functools
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pydantic import Field

from meanteacher.config import types


def find_origin(module: str) -> str | None:
    """The file of a module, found without importing its parent packages; None if there is no such module."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec.origin if spec else None


def module_file(module: str) -> Path | None:
    """The source file of a module; None if there is none."""
    origin = find_origin(module)
    return Path(origin) if origin and origin.endswith(".py") else None


@functools.cache
def parse(origin: str) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    """The functions and classes of a source file by name, and `module.name` for each of its `from module import name`."""
    body = ast.parse(Path(origin).read_text(encoding="utf-8")).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    imported = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    return {node.name: node for node in body if hasattr(node, "name")}, imported


def public_names(origin: str) -> list[str]:
    """The functions and classes that a source file defines, or if there are none, those that it imports."""
    defined, imported = parse(origin)
    return list(defined or imported)


def find_definition(module: str, name: str) -> tuple[ast.stmt | None, str]:
    """The function or class that `module.name` names, and the module that defines it; follows imports of the name."""
    origin = find_origin(module)
    if not origin or not origin.endswith(".py"):
        return None, module
    defined, imported = parse(origin)
    if name in defined or name not in imported:
        return defined.get(name), module
    source, _, original = imported[name].rpartition(".")
    return find_definition(source, original)


def constructor_parameters(module: str, name: str) -> dict[str, ast.expr | None] | None:
    """Keyword names and annotations of a function or of a class's constructor; None if it is not defined.

    A class without a constructor has its base class's; `**keywords` in a constructor stand for its base class's arguments.
    """
    node, module = find_definition(module, name)
    if node is None:
        return None
    if not isinstance(node, ast.ClassDef):
        return annotations(node)
    init = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
    inherited = {}
    if node.bases and (not init or init[0].args.kwarg):
        inherited = constructor_parameters(module, ast.unparse(node.bases[0])) or {}
    return inherited | (annotations(init[0]) if init else {})


def annotations(function: ast.FunctionDef) -> dict[str, ast.expr | None]:
    """The annotations of a function's keyword-only arguments by name."""
    return {argument.arg: argument.annotation for argument in function.args.kwonlyargs}


def annotated_type(node: ast.expr | None) -> Any:
    """The type that an annotation names, or None for one that is not a plain value (a module, a tensor, another object)."""
    names = {name: getattr(types, name) for name in types.__all__} | {
        "str": str,
        "int": int,
        "float": float,
        "bool": bool,
        "list": list,
    }
    try:
        return eval(
            compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": {}, "Field": Field, **names}
        )
    except (NameError, TypeError):
        return None

"""Constructor signatures read from source files, without importing them or their packages."""

import ast
import functools
import importlib.util
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor. required: it has no default."""

    annotation: ast.expr | None
    required: bool


@functools.cache
def parse(module: str, origin: str) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """The functions and classes of a source file by name, and the module and name behind each `from module import name`."""
    package = module if Path(origin).name == "__init__.py" else module.rpartition(".")[0]
    defined, imported = {}, {}
    for node in ast.parse(Path(origin).read_text(encoding="utf-8")).body:
        if hasattr(node, "name"):
            defined[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            imported |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return defined, imported


def public_names(module: str, origin: str) -> list[str]:
    """The functions and classes that a source file defines, or if there are none, those that it imports."""
    defined, imported = parse(module, origin)
    return list(defined or imported)


def find_definition(module: str, name: str) -> tuple[ast.stmt | None, str]:
    """The function or class that `module.name` names, and the module that defines it; follows imports of the name."""
    origin = find_origin(module)
    if not origin or not origin.endswith(".py"):
        return None, module
    defined, imported = parse(module, origin)
    if name in defined or name not in imported or imported[name] == (module, name):
        return defined.get(name), module
    return find_definition(*imported[name])


def constructor_parameters(module: str, name: str) -> dict[str, Parameter] | None:
    """The parameters of a function or of a class's constructor by name, inherited ones too; None if it is not defined.

    Parameters that can only be passed by position, `*args` and `**kwargs` are left out.
    """
    node, module = find_definition(module, name)
    if node is None:
        return None
    method = isinstance(node, ast.ClassDef)
    while isinstance(node, ast.ClassDef):
        init = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        base = ast.unparse(node.bases[0]) if node.bases else ""
        node, module = (init[0], module) if init else find_definition(module, base)
    if node is None:
        return {}
    arguments = node.args
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    pairs = [
        *zip(arguments.args, defaults, strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: Parameter(argument.annotation, default is None) for argument, default in pairs[method:]}


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

"""Constructor signatures read from source files, without importing them or their packages."""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

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
def parse(origin: str, package: str) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    """The functions and classes of a source file by name, and `module.name` for each of its `from module import name`.

    package: the package that relative imports start from. Definitions and imports under a condition count too.
    """
    statements = list(top_level(ast.parse(Path(origin).read_text(encoding="utf-8")).body))
    imported = {}
    for node in statements:
        if isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, (package.rsplit(".", node.level - 1)[0] if node.level else "", node.module)))
            imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
    return {node.name: node for node in statements if isinstance(node, DEFINITIONS)}, imported


DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, with those inside `if` and `try`; the first branch takes precedence."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            handlers = [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
            yield from top_level([*handlers, *node.orelse, *node.body])
        else:
            yield node


def parse_module(module: str) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    """`parse` for a module by name; empty if it has no Python source."""
    path = module_file(module)
    if path is None:
        return {}, {}
    return parse(str(path), module if path.name == "__init__.py" else module.rpartition(".")[0])


def public_names(module: str) -> list[str]:
    """The functions and classes that a module defines, or if there are none, those that it imports."""
    defined, imported = parse_module(module)
    return list(defined or imported)


def find_definition(module: str, name: str) -> tuple[ast.stmt | None, str]:
    """The function or class that `module.name` names, and the module that defines it; follows imports of the name."""
    defined, imported = parse_module(module)
    is_submodule = imported.get(name) == f"{module}.{name}"
    if name in defined or name not in imported or is_submodule:
        return defined.get(name), module
    source, _, original = imported[name].rpartition(".")
    return find_definition(source, original)


class Parameter(NamedTuple):
    """A constructor argument: the annotation in its source, and whether a yaml file must give a value for it."""

    annotation: ast.expr | None
    required: bool


def constructor_parameters(module: str, name: str) -> dict[str, Parameter] | None:
    """The arguments of a function or of a class's constructor by name, inherited ones too; None if it is not defined.

    A keyword-only argument is required even if it has a default, because a yaml file shows every value. An argument
    that can also be passed by position is required if it has no default. `**keywords` of a constructor
    stand for its base class's arguments.
    """
    node, module = find_definition(module, name)
    if node is None:
        return None
    if not isinstance(node, ast.ClassDef):
        return parameters_of_function(node, skipped=0)
    init = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
    inherited = {}
    if node.bases and (not init or (init[0].args.kwarg and not init[0].args.args[1:])):
        inherited = constructor_parameters(module, ast.unparse(node.bases[0])) or {}
    return inherited | (parameters_of_function(init[0], skipped=1) if init else {})


def parameters_of_function(function: ast.FunctionDef, skipped: int) -> dict[str, Parameter]:
    """The arguments of a function by name, without the first `skipped` ones (`self`)."""
    positional = function.args.args[skipped:]
    defaults = len(function.args.defaults)
    without_default = positional[:-defaults] if defaults else positional
    parameters = {argument.arg: Parameter(argument.annotation, argument in without_default) for argument in positional}
    return parameters | {argument.arg: Parameter(argument.annotation, True) for argument in function.args.kwonlyargs}


def annotated_type(node: ast.expr | None) -> Any:
    """The type that an annotation names, or None if it is not that of a plain value (a module, a tensor, an object)."""
    if node is None:
        return None
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

"""Checks of values before anything heavy is imported.

Values under a `_target_` are checked against the annotations of its constructor, which are read from the source without
importing it.
"""

import ast
import difflib
import importlib.util
import re
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from meanteacher.config import types
from meanteacher.config.errors import UserError

SUPPLIED = {"student", "num_classes", "num_images", "module", "channels", "classes"}
"""Constructor arguments that come from the run, not from a yaml."""

UNTARGETED = {"dataset": {"name", "storage", "labeled_in_unlabeled"}}
"""Keys of a group that belong to the run, not to its `_target_`."""


def nearest(word: str, valid) -> str:
    """' (did you mean …?)' with the nearest valid name, or the valid names where none is near."""
    valid = sorted(map(str, valid))
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(valid)}"


def validate(path: str, kind: Any, value: Any) -> None:
    """Raise UserError for the first part of `value` that is not of the type `kind`."""
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(describe(path, value, error.errors())) from None


def describe(path: str, value: Any, errors: list[dict]) -> str:
    """The first of pydantic's errors in one line: the key, its value, what is expected and the nearest valid name."""
    first, keys = errors[0], keys_in(value)
    location = [path, *map(str, first["loc"])]
    if first["type"] == "missing":
        *group, name = [part for part in location if part]
        return f"{'.'.join(group) or 'configuration'}: the key {name} is missing; add it to the yaml file"
    if first["type"] == "extra_forbidden":
        return f"{'.'.join(filter(None, location))}: there is no such key"
    where = ".".join(part for part in location if part in keys or part == path).lstrip(".")
    same_key = [error for error in errors if error["loc"][:1] == first["loc"][:1]]
    message = " or ".join(dict.fromkeys(error["msg"].removeprefix("Input ") for error in same_key))
    expected = [word for error in same_key for word in re.findall("'(.*?)'", error.get("ctx", {}).get("expected", ""))]
    hint = nearest(first["input"], expected) if len(expected) > 1 else ""
    return f"{where}={first['input']}: {message}{hint}"


def keys_in(value: Any) -> set[str]:
    if not isinstance(value, dict):
        return set()
    return set(value) | {key for inner in value.values() for key in keys_in(inner)}


def check_node(path: str, node: Any, untargeted: set[str]) -> None:
    """Check a mapping with a `_target_` against its constructor, and every mapping below."""
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        check_node(f"{path}.{key}", value, set())
    if "_target_" not in node:
        return
    parameters = signature(path, node["_target_"])
    if parameters is None:
        return
    given = set(node) - {"_target_"} - untargeted
    if extra := given - set(parameters):
        name = min(extra)
        raise UserError(
            f"{path}.{name}: {node['_target_']} takes no such value{nearest(name, set(parameters) - SUPPLIED)}"
        )
    if missing := set(parameters) - given - SUPPLIED:
        raise UserError(f"{path}: {node['_target_']} needs {', '.join(sorted(missing))}; add it to conf/{path}/*.yaml")
    for name in given:
        if not isinstance(node[name], dict) and (kind := annotation(parameters[name])) is not None:
            validate(f"{path}.{name}", kind, node[name])


def signature(path: str, target: str) -> dict[str, ast.expr | None] | None:
    """Keyword names and annotations of a class's constructor or a function, from its source; None where there is none."""
    module, _, name = target.rpartition(".")
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        raise UserError(f"{path}._target_={target}: there is no Python module {module}")
    if not spec.origin.endswith(".py"):
        return None
    body = {node.name: node for node in ast.parse(Path(spec.origin).read_text()).body if hasattr(node, "name")}
    if name not in body:
        raise UserError(f"{path}._target_={target}: {module} defines no {name}{nearest(name, body)}")
    found = body[name]
    while isinstance(found, ast.ClassDef):
        init = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        bases = [body.get(getattr(base, "id", "")) for base in found.bases]
        found = init[0] if init else bases[0] if bases else None
    return {a.arg: a.annotation for a in found.args.kwonlyargs} if found else {}


def annotation(node: ast.expr | None) -> Any:
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

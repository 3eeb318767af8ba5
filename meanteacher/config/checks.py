"""Checks of values before anything heavy is imported.

Values under a `_target_` are checked against the annotations of its constructor, which are read from the source without
importing it.
"""

import difflib
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from meanteacher.config.errors import UserError
from meanteacher.config.signatures import annotated_type, constructor_parameters, find_origin, public_names

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
    """Check a mapping with a `_target_` against its constructor, and every mapping below.

    path: the key of the mapping; untargeted: keys that the run reads itself. Raises UserError for the first mistake.
    """
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        check_node(f"{path}.{key}", value, set())
    if "_target_" not in node or (parameters := parameters_of(path, node["_target_"])) is None:
        return
    target, keys = node["_target_"], set(node) - {"_target_"} - untargeted
    if unknown := keys - set(parameters):
        name = min(unknown)
        raise UserError(f"{path}.{name}: {target} takes no such value{nearest(name, set(parameters) - SUPPLIED)}")
    if missing := set(parameters) - keys - SUPPLIED:
        names = ", ".join(sorted(missing))
        raise UserError(f"{path}: {target} needs {names}; add {'it' if len(missing) == 1 else 'them'} to the yaml file")
    for name in keys:
        if not isinstance(node[name], dict) and (kind := annotated_type(parameters[name])) is not None:
            validate(f"{path}.{name}", kind, node[name])


def parameters_of(path: str, target: str) -> dict[str, Any] | None:
    """Keyword names and annotations of a `_target_`, from its source; None if it has no Python source.

    Raises UserError if the module or the name does not exist.
    """
    module, _, name = target.rpartition(".")
    origin = find_origin(module)
    if not origin:
        raise UserError(f"{path}._target_={target}: there is no Python module {module}")
    if not origin.endswith(".py"):
        return None
    parameters = constructor_parameters(module, name)
    if parameters is None:
        raise UserError(f"{path}._target_={target}: {module} defines no {name}{nearest(name, public_names(origin))}")
    return parameters

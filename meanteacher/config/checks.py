"""Checks of values before anything heavy is imported.

Values under a `_target_` are checked against the annotations of its constructor, which are read from the source without
importing it.
"""

import ast
import difflib
import re
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from meanteacher.config.errors import UserError
from meanteacher.config.signatures import Parameter, annotated_type, constructor_parameters, find_origin, public_names
from meanteacher.config.types import Decay, NonNegativeFloat

SUPPLIED = {"student", "num_classes", "num_images", "params", "channels", "classes"}
"""Constructor arguments that come from the run, not from a yaml."""

UNTARGETED = {
    "dataset": {"name", "storage", "labeled_in_unlabeled"},
    "optimizer": {"decay_norm_and_bias", "layer_decay", "head_lr_scale"},
}
"""Keys of a group that belong to the run, not to its `_target_`."""

INSTRUCTIONS = {"_target_", "_partial_", "_convert_", "_recursive_"}
"""Keys that Hydra reads, not the constructor."""

OPTIMIZER = {
    "momentum": Decay,
    "betas": Annotated[list[Decay], Field(min_length=2)],
    "dampening": NonNegativeFloat,
    "weight_decay": NonNegativeFloat,
}
"""Ranges of the arguments of PyTorch's optimizers, whose annotations give no ranges. `lr` is in `OptimizerSettings`."""


MOST_NAMES = 40
"""More valid names than these are not all listed."""


def nearest(word: str, valid) -> str:
    """`; did you mean …?` with the nearest valid name; the valid names if none is near, or the first of very many."""
    names = sorted(map(str, valid))
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    shown = names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], "…"]
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(shown)}"


def validate(path: str, kind: Any, value: Any) -> Any:
    """The value as the type `kind`. Raises UserError for the first part of it that is not of this type."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(describe(path, value, error.errors())) from None


def describe(path: str, value: Any, errors: list[dict]) -> str:
    """The first of pydantic's errors in one line: the key, its value, what is expected and the nearest valid name."""
    first, keys = errors[0], keys_in(value)
    location = [path, *map(str, first["loc"])]
    if first["type"] == "missing":
        *group, name = [part for part in location if part]
        return describe_missing(".".join(group), name)
    if first["type"] == "extra_forbidden":
        return f"{'.'.join(filter(None, location))}: there is no such key"
    where = ".".join(part for part in location if part in keys or part == path).lstrip(".")
    same_key = [error for error in errors if error["loc"][:1] == first["loc"][:1]]
    message = " or ".join(dict.fromkeys(error["msg"].removeprefix("Input ") for error in same_key))
    expected = [word for error in same_key for word in re.findall("'(.*?)'", error.get("ctx", {}).get("expected", ""))]
    hint = nearest(first["input"], expected) if len(expected) > 1 else ""
    return f"{where}={first['input']}: {message}{hint}"


def describe_missing(group: str, name: str, needed_by: str = "") -> str:
    """One line for a required key that is missing. group: the key of its mapping, "" for the top level."""
    chosen = f"yaml file of the chosen {group.partition('.')[0]}" if group else "main configuration"
    reason = f" ({needed_by} needs it)" if needed_by else ""
    return f"{group}.{name}".lstrip(".") + f": this key is missing in the {chosen}{reason}; add it there"


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
    target, keys = node["_target_"], set(node) - INSTRUCTIONS - untargeted
    if unknown := keys - set(parameters):
        name = min(unknown)
        raise UserError(f"{path}.{name}: {target} takes no such value{nearest(name, set(parameters) - SUPPLIED)}")
    required = {name for name, parameter in parameters.items() if parameter.required and not node.get("_partial_")}
    if missing := required - keys - SUPPLIED:
        raise UserError(describe_missing(path, min(missing), target))
    for name in keys:
        if not isinstance(node[name], dict):
            check_argument(f"{path}.{name}", node[name], parameters[name].annotation)


def check_argument(path: str, value: Any, annotation: ast.expr | None) -> None:
    """Check a plain value against the annotation of its argument. Null in place of an object must be allowed by it."""
    if (kind := annotated_type(annotation)) is not None:
        validate(path, kind, value)
    elif value is None and annotation is not None:
        text = ast.unparse(annotation)
        if "None" not in text and "Optional" not in text:
            raise UserError(f"{path}=null: must be a mapping with a _target_ ({text}); leave it as in the yaml file")


def check_optimizer(node: dict[str, Any]) -> None:
    """Check the values of an optimizer. Raises UserError for the first that is out of range or does not fit."""
    if not node.get("_partial_"):
        raise UserError("optimizer: add `_partial_: true` to the yaml file; the run supplies the parameters later")
    for name in [name for name in OPTIMIZER if name in node]:
        validate(f"optimizer.{name}", OPTIMIZER[name], node[name])
    if node.get("nesterov") and (node.get("momentum") == 0 or node.get("dampening")):
        raise UserError("optimizer.nesterov=true needs momentum above 0 and no dampening; use optimizer.nesterov=false")


def parameters_of(path: str, target: str) -> dict[str, Parameter] | None:
    """The constructor arguments of a `_target_`, from its source; None if it has no Python source.

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
        raise UserError(f"{path}._target_={target}: {module} defines no {name}{nearest(name, public_names(module))}")
    return parameters

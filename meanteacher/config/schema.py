"""Checks a composed configuration before anything heavy is imported, and names a run by what determines its result.

Values under a `_target_` are checked against the annotations of its constructor, read from the source without importing it.
"""

import ast
import difflib
import functools
import hashlib
import importlib.util
import json
import re
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from meanteacher.config import types
from meanteacher.config.errors import UserError

SUPPLIED = {"student", "num_classes", "num_images", "module", "channels", "classes"}
"""Constructor arguments that come from the run, not from a yaml."""

UNTARGETED = {"dataset": {"name", "storage", "labeled_in_unlabeled"}}
"""Keys of a group that belong to the run, not to its `_target_`."""

WATCHING = {"data_dir", "output", "fresh", "logger", "split"}
WATCHING_TRAINER = {"device", "threads", "compile", "log_every", "checkpoint_minutes", "eval_batch"}
"""What changes where and how a run is watched, not what it computes."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TrainerKeys(Strict):
    device: Literal["auto", "free", "cuda", "mps", "cpu"]
    threads: PositiveInt | None
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto", "always", "never"]
    labeled_batch: PositiveInt
    unlabeled_batch: PositiveInt
    eval_batch: PositiveInt
    average_decay: types.Decay
    average_warmup: bool
    average_bn: Literal["copy", "average"]
    log_every: PositiveInt
    checkpoint_minutes: PositiveFloat


class RunKeys(Strict):
    label: PositiveInt | Literal["all"]
    seed: NonNegativeInt
    split_seed: NonNegativeInt
    split: str | None
    validation: NonNegativeInt
    steps: PositiveInt
    eval_every: PositiveInt
    data_dir: str
    output: str
    fresh: bool
    trainer: TrainerKeys


class DatasetKeys(Strict):
    name: str
    storage: Literal["auto", "device", "mmap"]
    labeled_in_unlabeled: bool


def nearest(word: str, valid) -> str:
    """' (did you mean …?)' with the nearest valid name, or the valid names where none is near."""
    valid = sorted(map(str, valid))
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(valid)}"


def check(config: dict) -> None:
    """Raises UserError for the first value that is of the wrong type, out of range or not among the choices."""
    keys = {name: config.get(name) for name in RunKeys.model_fields}
    validate("", RunKeys, keys)
    validate("dataset", DatasetKeys, {name: config["dataset"].get(name) for name in UNTARGETED["dataset"]})
    for group, node in config.items():
        check_node(group, node, UNTARGETED.get(group, set()))
    if config["split"] and config["validation"]:
        raise UserError(
            "validation and split exclude each other: a split file brings its own validation images; set validation=0"
        )


def validate(path: str, kind: Any, value: Any) -> None:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        errors = error.errors()
        where = ".".join(part for part in (path, *map(str, errors[0]["loc"])) if part in keys_in(value) or part == path)
        same = [e for e in errors if e["loc"][:1] == errors[0]["loc"][:1]]
        message = " or ".join(dict.fromkeys(e["msg"].removeprefix("Input ") for e in same))
        expected = [word for e in same for word in re.findall("'(.*?)'", e.get("ctx", {}).get("expected", ""))]
        hint = nearest(errors[0]["input"], expected) if len(expected) > 1 else ""
        raise UserError(f"{where.lstrip('.')}={errors[0]['input']}: {message}{hint}") from None


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
    origin = find_origin(module)
    if not origin:
        raise UserError(f"{path}._target_={target}: there is no Python module {module}")
    if not origin.endswith(".py"):
        return None
    node, module = find_definition(module, name)
    if node is None:
        names = parse(origin)[0] or parse(origin)[1]
        raise UserError(f"{path}._target_={target}: {module} defines no {name}{nearest(name, names)}")
    while isinstance(node, ast.ClassDef):
        init = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        base = ast.unparse(node.bases[0]) if node.bases else ""
        node, module = (init[0], module) if init else find_definition(module, base)
    return {a.arg: a.annotation for a in node.args.kwonlyargs} if node else {}


def find_origin(module: str) -> str | None:
    """The file of a module, found without importing its parent packages; None where there is no such module."""
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


@functools.cache
def parse(origin: str) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    """A source file's functions and classes by name, and the `module.name` behind each of its `from module import name`."""
    body = ast.parse(Path(origin).read_text(encoding="utf-8")).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    imported = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    return {node.name: node for node in body if hasattr(node, "name")}, imported


def find_definition(module: str, name: str) -> tuple[ast.stmt | None, str]:
    """The function or class that `module.name` names and the module that defines it, also where `module` imports it."""
    origin = find_origin(module)
    if not origin or not origin.endswith(".py"):
        return None, module
    defined, imported = parse(origin)
    if name in defined or name not in imported:
        return defined.get(name), module
    source, _, original = imported[name].rpartition(".")
    return find_definition(source, original)


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


def digest(config: dict) -> str:
    """10 hexadecimal digits over all that determines a run's result: the configuration, the images, the split file.

    1 and 1.0 are the same. A folder of images counts by its content, not by its path.
    Raises UserError where the folder of images or the split file can't be read.
    """
    kept = {key: value for key, value in config.items() if key not in WATCHING}
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in WATCHING_TRAINER}
    kept["dataset"] = {k: v for k, v in config["dataset"].items() if k not in {"storage", "data_dir", "root"}}
    if "root" in config["dataset"]:
        kept["images"] = images(config["dataset"]["root"], config["data_dir"])
    if config["split"]:
        try:
            kept["split"] = hashlib.blake2b(Path(config["split"]).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(
                f"split={config['split']}: cannot be read ({error.strerror}); give a split.json or a text list"
            ) from None
    text = json.dumps(normalized(kept), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


@functools.cache
def images(root: str, data_dir: str) -> str:
    """`fingerprint` of a folder of images, which a process lists only once."""
    from meanteacher.data.folder import fingerprint

    return fingerprint(root=root, data_dir=data_dir)


def normalized(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: normalized(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [normalized(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flat(nested: dict, separator: str, prefix: str = "") -> dict:
    """`{"test": {"error": 0.1}}` as `{"test/error": 0.1}`, with / as the separator."""
    found = {}
    for name, value in nested.items():
        inner = isinstance(value, dict)
        found |= flat(value, separator, f"{prefix}{name}{separator}") if inner else {f"{prefix}{name}": value}
    return found

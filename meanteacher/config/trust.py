"""Which code a configuration may name.

A configuration may come from a stranger, and Hydra calls whatever a `_target_` names. It may therefore name only the
classes and data sets of this package, the layers and optimizers of PyTorch, and code that the user trusts
(`trusted_packages=[…]` on the command line, or `trust_packages` in a program). The check imports nothing.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from meanteacher.config.checks import parameters_of
from meanteacher.config.errors import UserError
from meanteacher.config.signatures import annotated_type, find_definition, find_origin, parameters_of_function

FOLDERS = ("data", "loggers", "methods", "models", "optim", "benchmark.random_data", "inspection.timing")
OWN = tuple(f"meanteacher.{folder}" for folder in FOLDERS)
"""Packages whose classes and data sets may be named: their constructors change nothing outside of the process."""

TORCH = ("torch.nn.modules", "torch.optim")
"""Packages of PyTorch whose classes may be named; not its functions, some of which run code from a file or the net."""

LIBRARIES = frozenset(sys.stdlib_module_names) | {"meanteacher", "torch"}
"""Packages that the message for a refused name does not propose to trust."""

trusted: set[str] = set()
"""Packages and modules that the user of this process trusts."""


def trust_packages(names: str | Iterable[str]) -> None:
    """For the rest of the process, allow a `_target_` to name whatever these packages or modules define.

    names: importable names, such as `my_project`. Any configuration may then call all of their functions. Raises
    UserError for what is not a name.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if not is_dotted_name(name):
            raise UserError(f"trusted_packages={name}: not the name of a module; use trusted_packages=[my_module]")
    trusted.update(names)


def check_targets(config: Any, path: str = "") -> None:
    """Raise UserError if a nested configuration names code that it may not call; the message lists all modules.

    A string with an interpolation is refused too: Hydra would resolve it after this check.
    """
    refused = list(refused_targets(config, path))
    if not refused:
        return
    proposed = sorted({module.partition(".")[0] for _, module in refused} - LIBRARIES)
    advice = "name a class of meanteacher"
    if proposed:
        advice = f"if you trust all of its code, add 'trusted_packages=[{','.join(proposed)}]' to the command"
    where, module = refused[0]
    raise UserError(f"{where}: a configuration may not run code of {module}; {advice}")


def refused_targets(config: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each `path._target_=name` in a nested configuration that may not be called, and the module that defines it."""
    if isinstance(config, dict):
        if "_target_" in config and (module := refused_module(path, config["_target_"])):
            yield f"{path}._target_={config['_target_']}".lstrip("."), module
        for key, value in config.items():
            yield from refused_targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from refused_targets(value, path)
    elif isinstance(config, str) and "${" in config:
        raise UserError(f"{path}={config}: an interpolation is left after composing; write the value itself")


def refused_module(path: str, target: Any) -> str | None:
    """The module that defines `target` if it may not be called, else None.

    Raises UserError if it is not a name, or if this package or PyTorch has nothing of this name.
    """
    if not is_dotted_name(target):
        raise UserError(f"{path}._target_={target}: must be a name, as in meanteacher.models.wide_resnet.WideResNet")
    module, _, name = target.rpartition(".")
    definition, home = find_definition(module, name)
    if definition is not None:
        within_trusted = is_within(module, trusted) and is_within(home, trusted)
        return None if within_trusted or is_allowed(definition, home) else home
    if is_within(module, (*OWN, *TORCH)):
        parameters_of(path, target)
    is_extension = is_within(module, trusted) and not (find_origin(module) or ".py").endswith(".py")
    return None if is_extension else module or target


def is_dotted_name(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def is_within(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of the packages or inside of one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_allowed(definition: ast.stmt, home: str) -> bool:
    """Whether any configuration may call what is defined in the module `home`.

    A function must return a data set and take plain values: other functions of `meanteacher.data` write files.
    """
    if any(part.startswith("_") for part in (*home.split("."), definition.name)):
        return False
    if isinstance(definition, ast.ClassDef):
        return is_within(home, (*OWN, *TORCH))
    if not is_within(home, OWN) or not isinstance(definition, ast.FunctionDef):
        return False
    returned = ast.unparse(definition.returns) if definition.returns else None
    annotations = [parameter.annotation for parameter in parameters_of_function(definition, skipped=0).values()]
    plain = all(annotated_type(annotation) is not None for annotation in annotations)
    return returned == "Dataset" and plain

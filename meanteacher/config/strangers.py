"""Keys that a yaml file may not set, because Hydra would run code or commands before any check of the settings.

The command line may still set them.
"""

import functools
from collections.abc import Iterator
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from meanteacher.config.errors import UserError

COMMAND_LINE_ONLY = (
    "trusted_packages",
    "hydra.callbacks",
    "hydra.job.env_set",
    "hydra.launcher.setup",
    "hydra.launcher.python",
    "hydra.launcher.srun_args",
    "hydra.launcher.additional_parameters",
    "hydra.sweeper.sampler",
    "hydra.sweeper.custom_search_space",
    "hydra.sweeper.params.trusted_packages",
)
"""Keys that call code, run commands or change the environment."""

HARMLESS_LOGGING = {
    "logging.StreamHandler",
    "logging.FileHandler",
    "colorlog.ColoredFormatter",
    "ext://sys.stdout",
    "ext://sys.stderr",
    "${hydra.runtime.output_dir}/${hydra.job.name}.log",
}
"""The classes, factories, objects and file names that the logging configurations of Hydra itself contain."""

SAMPLERS = "optuna.samplers."

CALLBACK = "meanteacher.sweeps.grid.CompareSearch"
"""Compares the runs of a search; sweeps/sweep/search.yaml names it."""


def refuse_strangers() -> None:
    """From now on in this process, `check_composed` every configuration that Hydra composes.

    Hydra has no hook between composing a configuration and calling what it names, so its loader is wrapped.
    """
    original = ConfigLoaderImpl.load_configuration
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def load_and_check(self, config_name, overrides, *arguments, **keywords):
        config = original(self, config_name, overrides, *arguments, **keywords)
        check_composed(config, overrides)
        return config

    ConfigLoaderImpl.load_configuration = load_and_check


def check_composed(config: DictConfig, overrides: list[str]) -> None:
    """Raise UserError if a yaml file sets what only the command line may set. overrides: those of the command line."""
    given = {override.lstrip("+~").partition("=")[0].replace("/", ".") for override in overrides}
    for key in COMMAND_LINE_ONLY:
        value = select_unresolved(config, key)
        if value and not is_harmless(key, value) and not is_given(key, value, given):
            raise UserError(f"{key}: a yaml file may not set this, because it runs code; give it on the command line")
    for key in ("hydra.hydra_logging", "hydra.job_logging"):
        if named := next(named_code(select_unresolved(config, key)), None):
            raise UserError(f"{key}: {named} is refused, because it runs code; use hydra/job_logging=none")


def select_unresolved(config: DictConfig, key: str) -> Any:
    """The value of a dotted key as builtins, interpolations as text; None if it is missing."""
    *parents, name = key.split(".")
    for parent in parents:
        node = config._get_node(parent) if isinstance(config, DictConfig) and parent in config else None
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
            return None
        config = node
    return OmegaConf.to_container(config, resolve=False).get(name)


def is_given(key: str, value: Any, given: set[str]) -> bool:
    """Whether the command line gives this value, or every value in it if it is a mapping: Hydra merges mappings."""
    if isinstance(value, dict):
        return all(is_given(f"{key}.{name}", inner, given) for name, inner in value.items())
    return key in given


def is_harmless(key: str, value: Any) -> bool:
    """Whether a yaml file may set this value: a sampler of Optuna with plain arguments, or this package's callback."""
    if key == "hydra.callbacks" and isinstance(value, dict):
        return all(node == {"_target_": CALLBACK} for node in value.values())
    if key != "hydra.sweeper.sampler" or not isinstance(value, dict):
        return False
    plain = all(not isinstance(v, dict | list) and "${" not in str(v) for v in value.values())
    return plain and str(value.get("_target_")).startswith(SAMPLERS)


def named_code(node: Any) -> Iterator[str]:
    """The classes, factories, objects and files in a configuration of Python's logging, without `HARMLESS_LOGGING`."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from named_code(value)
        elif key in ("class", "()", "filename") or any(mark in str(value) for mark in ("${", "://")):
            yield from {str(value)} - HARMLESS_LOGGING

"""From what Hydra composes to the settings of a run and its run directory. No other module sees a DictConfig."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from meanteacher.config.checks import nearest
from meanteacher.config.errors import UserError
from meanteacher.config.locations import CONF
from meanteacher.config.settings import Choices, Settings
from meanteacher.config.strangers import refuse_strangers
from meanteacher.config.trust import trust_packages

GROUPS = ("dataset", "model", "method", "optimizer", "schedule", "augment", "experiment")
"""Config groups whose options are recorded with a run."""

SET_BY_RECIPES = ("method", "model", "optimizer", "schedule")
"""Groups whose values a recipe (conf/experiment) sets for the option that it chooses itself."""


@contextmanager
def compose_overrides(overrides: Iterable[str]) -> Iterator[DictConfig]:
    """The configuration with these overrides, Hydra's node included, without Hydra's command line.

    Hydra is initialized within the context, as `plain` and `compose_run` need it.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield compose("config", list(overrides), return_hydra_config=True)


def compose_run(root: DictConfig, hydra: DictConfig, sweep: str | None = None) -> tuple[Settings, Choices]:
    """The settings and choices of one run.

    hydra: Hydra's own node of the same composition; sweep: the sweep that the run belongs to. Raises UserError for bad
    values.
    """
    chosen = {group: hydra.runtime.choices.get(group) for group in GROUPS}
    for group in GROUPS[:-1]:
        if chosen[group] is None:
            raise UserError(f"{group}: choose one option, as in {group}=NAME")
    return Settings.parse(plain(root, hydra)), Choices(**chosen, sweep=sweep)


def plain(root: DictConfig, hydra: DictConfig) -> dict:
    """The composed configuration without Hydra's node, resolved, as builtins.

    Its `trusted_packages` are trusted from here on and left out: they are not part of a run.
    """
    trust_packages(root.get("trusted_packages", []))
    nodes = {key: root._get_node(key) for key in root if key not in ("hydra", "trusted_packages")}
    nodes |= own_nodes(root, hydra)
    return OmegaConf.to_container(OmegaConf.create(nodes, flags={"allow_objects": True}), resolve=True)


def compose_plain(overrides: Iterable[str]) -> dict:
    """The `plain` configuration that these overrides compose, for programs that Hydra does not start."""
    with compose_overrides(overrides) as root:
        return plain(root, root.hydra)


def own_nodes(root: DictConfig, hydra: DictConfig) -> dict[str, DictConfig]:
    """Nodes to use in place of the composed ones if another option than the recipe's own was chosen.

    A recipe's `method:` values belong to its own method: another method keeps its own values, or those tuned for it.
    Of a recipe's model, optimizer and schedule values, another option takes the keys that it has.
    """
    choices = hydra.runtime.choices
    if not (experiment := choices.get("experiment")):
        return {}
    recipe = load(hydra.job.config_name, (f"experiment={experiment}",)).hydra.runtime.choices
    changed = [group for group in SET_BY_RECIPES if choices[group] != recipe[group]]
    if not changed:
        return {}
    overrides = [f"{group}={choices[group]}" for group in GROUPS[:-1] if choices.get(group)]
    if choices.method in tuned_methods(experiment):
        overrides.append(f"tuned={experiment}/{choices.method}")
    values = tuple(f"{group}." for group in SET_BY_RECIPES)
    overrides += [override for override in hydra.overrides.task if override.startswith(values)]
    alone = load(hydra.job.config_name, tuple(overrides))
    return {
        group: alone._get_node(group) if group == "method" else shared_keys(root[group], alone[group])
        for group in changed
    }


def shared_keys(node: DictConfig, reference: DictConfig) -> DictConfig:
    """The node without the keys that `reference` lacks, at every depth."""
    kept = OmegaConf.create({}, flags={"allow_objects": True})
    for key in node:
        if key in reference:
            child = node._get_node(key)
            nested = isinstance(child, DictConfig) and isinstance(reference._get_node(key), DictConfig)
            kept._set_item_impl(key, shared_keys(child, reference[key]) if nested else child)
    return kept


@lru_cache(maxsize=64)
def load(config_name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Another composition from the same search path."""
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(config_name, list(overrides), run_mode=RunMode.RUN)


def tuned_methods(experiment: str) -> list[str]:
    """The methods that conf/tuned/<experiment> holds values for. Raises UserError if a file names no method."""
    loader = GlobalHydra.instance().config_loader()
    tuned, methods = loader.get_group_options(f"tuned/{experiment}"), loader.get_group_options("method")
    for name in tuned:
        if name not in methods:
            raise UserError(f"conf/tuned/{experiment}/{name}.yaml: no method has this name{nearest(name, methods)}")
    return tuned


def missing_tuning(choices: Choices) -> str | None:
    """A sentence for the user if the recipe has values tuned per method, but none for the method of the run."""
    tuned = tuned_methods(choices.experiment) if choices.experiment else []
    if not tuned or choices.method in tuned:
        return None
    return (
        f"conf/tuned/{choices.experiment} holds no values for method={choices.method}: its defaults are used, not tuned"
    )


def run_dir(*, _root_: DictConfig) -> str:
    """The run directory below `output`, named by what determines the result. The first place that checks the values."""
    settings, choices = compose_run(_root_, _root_.hydra)
    sweeper = _root_.hydra.runtime.choices["hydra/sweeper"]
    if sweeper != "grid" and not settings.validation and not settings.split:
        raise UserError(f"hydra/sweeper={sweeper} needs validation images to optimize on; use validation=1000 or so")
    if sweeper == "optuna" and _root_.hydra.sweeper.storage:
        raise UserError(
            "hydra.sweeper.storage: a stored study adds n_trials more at every start; leave it null: the run folders "
            "keep the trials, and the same command goes on to n_trials in all"
        )
    return run_path(settings, choices)


def run_path(settings: Settings, choices: Choices) -> str:
    """The run directory below `output`, named by what determines the result."""
    return f"{choices.dataset}/{choices.method}/label-{settings.label}/seed-{settings.seed}/{settings.digest}"


OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
refuse_strangers()

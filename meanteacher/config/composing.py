"""From what Hydra composes to plain builtins, and to the name of a run's folder. No other module sees a DictConfig."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from meanteacher.config import schema
from meanteacher.config.errors import UserError

CONF = Path(__file__).parents[2] / "conf"

GROUPS = ("dataset", "model", "method", "optimizer", "schedule", "augment", "experiment")


def plain(root: DictConfig) -> dict:
    """The composed configuration without Hydra's part, resolved, as builtins."""
    own = {key: root._get_node(key) for key in root if key != "hydra"}
    resolved = OmegaConf.create({key: node for key, node in own.items()}, flags={"allow_objects": True})
    return OmegaConf.to_container(resolved, resolve=True)


def names(hydra_config: DictConfig) -> dict:
    """Which option of each group was chosen."""
    return {group: hydra_config.runtime.choices.get(group) for group in GROUPS}


def run_folder(*, _root_: DictConfig) -> str:
    """Where a run lies below `output`: named by what determines its result. Also the first place that sees bad values."""
    settings, chosen = plain(_root_), _root_.hydra.runtime.choices
    schema.check(settings)
    if (sweeper := chosen["hydra/sweeper"]) != "grid" and not settings["validation"] and not settings["split"]:
        raise UserError(f"hydra/sweeper={sweeper} needs validation images to optimize on; use validation=1000 or so")
    return (
        f"{chosen.dataset}/{chosen.method}/label-{settings['label']}/seed-{settings['seed']}/{schema.digest(settings)}"
    )


def project(folder: str) -> str:
    """The absolute path of a folder beside conf/."""
    return str(CONF.parent / folder)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("project", project, replace=True)

"""The door: `python run.py label=1000`. Composes the configuration with Hydra and hands it on as plain builtins."""

import os
import sys
from pathlib import Path

os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meanteacher import cli, config
from meanteacher.errors import UserError

GROUPS = ("dataset", "model", "method", "optimizer", "schedule", "augment", "experiment")


def plain(root: DictConfig) -> dict:
    """The composed configuration without Hydra's part, resolved, as builtins."""
    own = {key: root._get_node(key) for key in root if key != "hydra"}
    resolved = OmegaConf.create({key: node for key, node in own.items()}, flags={"allow_objects": True})
    return OmegaConf.to_container(resolved, resolve=True)


def run_folder(*, _root_: DictConfig) -> str:
    """Where a run lies below `output`: named by what determines its result. Also the first place that sees bad values."""
    settings, chosen = plain(_root_), _root_.hydra.runtime.choices
    config.check(settings)
    if (sweeper := chosen["hydra/sweeper"]) != "basic" and not settings["validation"] and not settings["split"]:
        raise UserError(f"hydra/sweeper={sweeper} needs validation images to optimize on; use validation=1000 or so")
    return (
        f"{chosen.dataset}/{chosen.method}/label-{settings['label']}/seed-{settings['seed']}/{config.digest(settings)}"
    )


OmegaConf.register_new_resolver("run_folder", run_folder)


failed: list[Exception] = []
"""Bad input that jobs met. Raising it through Hydra would print more than one line, and would end a multirun."""


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(composed: DictConfig) -> float | None:
    """One run. Returns the validation error of the network to deploy, for sweepers that optimize, or None."""
    try:
        return train(composed, HydraConfig.get())
    except (UserError, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        failed.append(error)
        return None


def train(composed: DictConfig, hydra_config: DictConfig) -> float | None:
    settings, chosen = plain(composed), hydra_config.runtime.choices
    config.check(settings)
    from meanteacher import experiment

    swept = hydra_config.mode == RunMode.MULTIRUN
    names = {group: chosen.get(group) for group in GROUPS}
    names["sweep"] = " ".join(a for a in sys.argv[1:] if a not in ("-m", "--multirun")) if swept else None
    command = " ".join(["python", *sys.argv])
    result = experiment.run(settings, names, Path(hydra_config.runtime.output_dir), command)
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    held_out = result["validation"] or {}
    return next((found["error_last"] for found in reversed(held_out.values())), None)


def main() -> int:
    cli.log_to_console()
    try:
        cli.refuse_additions(sys.argv[1:])
        job()
    except KeyboardInterrupt:
        return 130
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The door: `python run.py label=1000`. Composes the configuration with Hydra and hands it on as plain builtins."""

import logging
import os
import shlex
import signal
import sys
from pathlib import Path

os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from meanteacher.config import cli, composing, schema
from meanteacher.config.errors import UserError
from meanteacher.training import signals

failed: list[Exception] = []
"""What went wrong in runs of this process. Raised through Hydra it would take more than one line."""


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(root: DictConfig) -> float | None:
    """One run. Returns the validation error of the network to deploy, for sweepers that optimize, or None.

    A job of a multirun leaves its failure in result.json and returns, so that the others go on.
    """
    hydra_config = HydraConfig.get()
    swept = hydra_config.mode == RunMode.MULTIRUN
    if swept and signals.last is not None:
        return None
    cli.log_to_console(logging.ERROR)
    try:
        return train(root, hydra_config)
    except KeyboardInterrupt:
        if not swept:
            raise
        signals.last = signal.SIGINT  # raised through joblib, it would end the other runs before they have saved
        return None
    except Exception as error:
        if not swept and not isinstance(error, (UserError, OSError)):
            raise
        logging.getLogger("meanteacher").error("error: %s", cli.one_line(error))
        failed.append(error)
        return None
    finally:
        if signals.orphaned():
            os._exit(1)


def train(root: DictConfig, hydra_config: DictConfig) -> float | None:
    settings = composing.plain(root)
    schema.check(settings)
    from meanteacher.runs import run

    swept = hydra_config.mode == RunMode.MULTIRUN
    names = composing.names(hydra_config) | {"sweep": hydra_config.job.name if swept else None}
    alone = ["hydra.mode=RUN"] if hydra_config.runtime.choices.sweep != "none" else []
    command = shlex.join(["python", *(["run.py", *hydra_config.overrides.task, *alone] if swept else sys.argv)])
    result = run.run(settings, names, Path(hydra_config.runtime.output_dir), command, alone=not swept)
    if result["status"] == "interrupted":
        signals.pass_on()
    held_out = result["validation"] or {}
    return next((found["error_last"] for found in reversed(held_out.values())), None)


def main() -> int:
    cli.log_to_console(logging.INFO)
    try:
        cli.refuse_additions(sys.argv[1:])
        sys.argv += cli.multirun(sys.argv[1:])
        job()
    except KeyboardInterrupt:
        return 130
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 1
    return 130 if signals.last is not None else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

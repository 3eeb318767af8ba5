"""Many runs by one command: Hydra's grid sweeper, which here leaves out what is finished, says what the rest costs,
shows how far it is and compares at the end. Any Hydra launcher runs the jobs; the folders of the runs say how they went."""

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from meanteacher.config.composing import compose_run
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.runs.train import command_line
from meanteacher.sweeps import slurm
from meanteacher.sweeps.sweep import Job, Sweep, log_comparison
from meanteacher.training import signals

log = logging.getLogger("meanteacher.grid")


class Grid(BasicSweeper):
    """Every combination of the values, `hydra.sweeper.params` first, the command line's in place of theirs."""

    def sweep(self, arguments: list[str]) -> None:
        """Raises UserError for a bad value in any run before the first one starts, and at the end where runs failed."""
        from meanteacher.sweeps.progress import Watch

        sweep = self.plan(arguments)
        log.info("sweep   %s: %s", sweep.name, sweep.description())
        log.info("folder  %s", sweep.folder)
        sweep.write()
        seconds = {}
        if sweep.missing:
            from meanteacher.sweeps import cost  # takes seconds to import PyTorch

            seconds = cost.estimate(sweep)
        try:
            with Watch(sweep, seconds), signals.wait_for_runs_to_save():
                self.launch(sweep)
        finally:
            sweep.compare()
        if signals.last_signal is not None:
            if type(self.launcher).__name__ == "SlurmLauncher":
                log.info("jobs that Slurm has taken go on without this process: squeue shows them, scancel stops them")
            log.info("stopped; the same command goes on with what is missing: %s", sweep.command)
        elif unfinished := sweep.unfinished():
            raise UserError(
                f"{len(unfinished)} of {len(sweep.jobs)} runs are not finished; "
                f"{sweep.folder}/comparison.md says why, and the same command repeats only them"
            )

    def plan(self, arguments: list[str]) -> Sweep:
        """Compose every job, which also checks its values."""
        params = [f"{key}={value}" for key, value in self.params.items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (batch,) = self.split_arguments(parser.parse_overrides([*params, *arguments]), None)
        chosen = self.config.hydra.runtime.choices.sweep
        name = "multirun" if chosen == "none" else chosen
        command = command_line()
        return Sweep(name, command, Path(self.config.hydra.sweep.dir), [self.job(overrides) for overrides in batch])

    def job(self, overrides: list[str]) -> Job:
        root = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        folder = Path(root.hydra.sweep.dir) / root.hydra.sweep.subdir
        settings, choices = compose_run(root, root.hydra)
        return Job(overrides=list(overrides), folder=folder, settings=settings, choices=choices)

    def launch(self, sweep: Sweep) -> None:
        """Run what is missing. An engine that breaks down is said; what its runs have saved is compared all the same."""
        if not sweep.missing:
            return
        named = [[*job.overrides, f"hydra.job.name={sweep.id}"] for job in sweep.missing]
        submitit = "submitit" in type(self.launcher).__module__
        warnings.filterwarnings("ignore", "A worker stopped while", UserWarning)  # joblib has replaced it
        try:
            with slurm.each_for_itself() if submitit else nullcontext():
                for returned in self.launcher.launch(named, initial_job_idx=0):
                    _ = returned and returned.return_value
        except (UserError, HydraException):
            raise
        except Exception as error:
            log.error("error: the launcher stopped: %s", one_line(error))


class CompareSearch(Callback):
    """For sweepers that choose the runs themselves: compare all runs of this name when they are done."""

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        from meanteacher.comparison import results
        from meanteacher.comparison.command import compare

        name, output = config.hydra.job.name, Path(config.hydra.sweep.dir)
        found = [
            run.path for run in results.find_runs([output]) if run.result and run.result.choices.get("sweep") == name
        ]
        log_comparison(compare(found, output / "sweeps" / name, name))

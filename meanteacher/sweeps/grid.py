"""The sweeper that runs every combination of values, and a callback that compares the runs of other sweepers."""

import itertools
import logging
import os
import warnings
from contextlib import nullcontext
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from meanteacher.config.composing import compose_run, run_path
from meanteacher.config.console import one_line
from meanteacher.config.errors import UserError
from meanteacher.runs.on_failure import OnFailure, stop_file
from meanteacher.runs.train import command_line
from meanteacher.sweeps import submitit_patches
from meanteacher.sweeps.changes import describe_changes
from meanteacher.sweeps.sweep import Job, Sweep, is_failed, log_comparison, write_sweep
from meanteacher.training import signals

log = logging.getLogger(__name__)

SUBDIR = "hydra.sweep.subdir"
"""The key of a run folder's name. The folders tell the runs of a sweep apart, so they are not free to choose."""


class Grid(Sweeper):
    """Runs every combination of the values, skips finished runs, and compares all runs at the end.

    params: values by key, as in `seed: 0,1,2`; values on the command line take their place. baseline: values that take
    the place of those in `params` for further runs, as for a method that needs fewer of them. on_failure: see
    `OnFailure`. running_elsewhere: what a job does at first with a run that another process trains. Any launcher of
    Hydra runs the jobs. Whether a run succeeded is read from its run folder.
    """

    def __init__(
        self,
        params: dict[str, str] | None,
        baseline: dict[str, str | int | float] | None,
        on_failure: str,
        running_elsewhere: str,
    ):
        self.params, self.baseline = params or {}, baseline or {}
        self.on_failure, self.running_elsewhere = OnFailure.parse(on_failure), running_elsewhere

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config_loader, self.config = hydra_context.config_loader, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @property
    def uses_submitit(self) -> bool:
        """Whether the runs print into files of submitit instead of to this terminal."""
        return "submitit" in type(self.launcher).__module__

    def sweep(self, arguments: list[str]) -> None:
        """Plan, run and compare. arguments: the overrides on the command line.

        Raises UserError for a bad value in any run before the first starts, and at the end if runs are not finished.
        """
        from meanteacher.sweeps.progress import SweepProgress

        sweep = self.plan(arguments)
        log.info("sweep   %s: %s", sweep.name, sweep.description())
        log.info("folder  %s", sweep.folder)
        for sentence in describe_changes(sweep):
            log.info("changed %s", sentence)
        sweep.write()
        seconds = {}
        if sweep.missing:
            from meanteacher.sweeps import cost  # imports PyTorch, which takes seconds

            seconds = cost.estimate_seconds(sweep)
        try:
            with SweepProgress(sweep, seconds, tell_failures=self.uses_submitit), signals.wait_for_runs_to_save():
                self.launch(sweep)
        finally:
            sweep.compare()
        self.report_missing(sweep)

    def plan(self, arguments: list[str]) -> Sweep:
        """Compose every job, which also checks its values. Raises UserError for a bad value."""
        parser = OverridesParser.create(config_loader=self.config_loader)
        grids = [self.params, {**self.params, **self.baseline}] if self.baseline else [self.params]
        if any(argument.startswith(SUBDIR) for argument in self.config.hydra.overrides.hydra):
            raise UserError(f"{SUBDIR} cannot be changed: its run folders are named by their settings; change output=")
        combinations = [
            overrides
            for params in grids
            for overrides in combine(
                parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *arguments])
            )
        ]
        option = self.config.hydra.runtime.choices.sweep
        return Sweep(
            name="multirun" if option == "none" else option,
            command=command_line(),
            output=Path(self.config.hydra.sweep.dir),
            jobs=[self.compose_job(overrides) for overrides in combinations],
        )

    def compose_job(self, overrides: list[str]) -> Job:
        """Compose and check one run. Raises UserError for a bad value."""
        root = self.config_loader.load_sweep_config(self.config, overrides)
        settings, choices = compose_run(root, root.hydra)
        folder = Path(root.hydra.sweep.dir) / run_path(settings, choices)
        return Job(overrides=overrides, folder=folder, settings=settings, choices=choices)

    def launch(self, sweep: Sweep) -> None:
        """Run the missing jobs; then, once, those that were left out, and failed ones as often as `on_failure` says.

        Left out are runs that another process trained, and those that a stopped launcher did not start.
        """
        stop_file(sweep.folder).unlink(missing_ok=True)
        jobs, running, retries = sweep.missing, self.running_elsewhere, self.on_failure.retries
        while jobs:
            self.launch_once(sweep, jobs, running)
            if signals.last_signal is not None or stop_file(sweep.folder).exists():
                return
            unfinished = sweep.unfinished()
            left_out = [job for job in unfinished if not is_failed(job.read_result())]
            if running == "skip" and left_out:
                jobs, running = left_out, "wait"
            else:
                jobs, running, retries = (unfinished if retries else []), "wait", retries - 1

    def launch_once(self, sweep: Sweep, jobs: list[Job], running: str) -> None:
        """Run these jobs. If the launcher itself fails, log its error; the results so far are still compared."""
        own = [f"hydra.job.name={sweep.id}", f"hydra.sweeper.running_elsewhere={running}"]
        overrides = [[*job.overrides, *own] for job in jobs]
        warnings.filterwarnings(
            "ignore", "A worker stopped while", UserWarning
        )  # joblib has already replaced the worker
        try:
            with submitit_patches.applied() if self.uses_submitit else nullcontext():
                for job_return in self.launcher.launch(overrides, initial_job_idx=0):
                    if job_return is not None:
                        _ = job_return.return_value  # raises the error of a job that failed
        except (UserError, HydraException):
            raise
        except Exception as error:
            log.error("error: the launcher stopped: %s", one_line(error))

    def report_missing(self, sweep: Sweep) -> None:
        """Log how to resume if a signal stopped the sweep. Otherwise, raise UserError if runs are not finished."""
        if signals.last_signal is not None:
            if type(self.launcher).__name__ == "SlurmLauncher":
                log.info("submitted jobs stay in Slurm's queue: squeue lists them, scancel cancels them")
            log.info("stopped; rerun the command to run what is missing: %s", sweep.command)
        elif unfinished := sweep.unfinished():
            stopped = "stopped at a failed run: " if stop_file(sweep.folder).exists() else ""
            raise UserError(
                f"{stopped}{len(unfinished)} of {len(sweep.jobs)} runs are not finished; "
                f"the reasons are in {sweep.folder}/comparison.md; rerun the command to repeat only these runs"
            )


def combine(overrides: list[Override]) -> list[list[str]]:
    """Every combination of the overrides' values, each a list of `key=value`. A later override replaces an earlier one.

    Raises UserError for an interval, which has no list of values.
    """
    values: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise UserError(
                f"{override.input_line}: a grid needs a list of values; hydra/sweeper=optuna takes intervals"
            )
    return [list(combination) for combination in itertools.product(*values.values())]


class CompareSearch(Callback):
    """Compares the runs that another sweeper, such as Optuna, has chosen: all that have the name of this multirun.

    It lists them in sweep.json, marked as a search, so that a comparison can count the settings that were tried.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        """Called by Hydra after the last job."""
        from meanteacher.comparison.command import compare
        from meanteacher.comparison.results import find_runs

        name, output = config.hydra.job.name, Path(config.hydra.sweep.dir)
        runs = [run for run in find_runs([output]) if run.result and run.result.choices.get("sweep") == name]
        folder = output / "sweeps" / name
        trials = [{"folder": os.path.relpath(run.folder, folder), "overrides": []} for run in runs]
        write_sweep(folder, {"name": name, "command": command_line(), "search": True, "runs": trials})
        log_comparison(compare([folder], folder, name))

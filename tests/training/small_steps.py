"""The training step of a run with small batches."""

from contextlib import contextmanager

from conftest import parsed

from meanteacher.config.settings import Choices
from meanteacher.runs.run_dir import RunDir
from meanteacher.runs.session import Session

SMALL = ("experiment=quickstart", "trainer.labeled_batch=8", "trainer.unlabeled_batch=8", "logger=jsonl")


@contextmanager
def open_step(folder, *overrides):
    """The training step of a run with these overrides, in the folder `folder`."""
    with RunDir(folder, "", False) as run_dir:
        yield Session(parsed(*SMALL, *overrides), Choices(), run_dir, show_progress=False).trainer.train_step

"""What a run logs before its first step: data, split, model, batches, device, directory."""

import logging

import numpy as np
from torch import nn

from meanteacher.config.settings import Choices, Settings
from meanteacher.data import Dataset
from meanteacher.data.splits import Split
from meanteacher.models import batch_norm

log = logging.getLogger(__name__)

MOST_INITIAL_STATISTICS = 0.05
"""Share of the initial batch-norm statistics that may be left after the run without a warning."""

IMBALANCED = 2
"""Classes whose numbers of labels differ by more than this factor may need balanced sampling."""


def log_data(data: Dataset, split: Split, settings: Settings, storage: str) -> None:
    """Log the data set, where its images are kept (`device` or `mmap`), and the split."""
    size = "×".join(map(str, data.train.pixels.shape[1:]))
    counts = f"{len(data.train.targets)} training and {len(data.test.targets)} test images of {size}"
    place = {"device": "in memory", "mmap": "memory-mapped"}[storage]
    log.info("data    %s: %s, %d classes, %s", data.name, counts, len(data.classes), place)
    validation = f", {len(split.validation)} validation" if len(split.validation) else ""
    origin = f"from {settings.split}" if settings.split else f"split_seed {settings.split_seed}"
    other = f" ({(data.train.targets[split.unlabeled] < 0).sum()} of other classes)" if data.unknown_test else ""
    counts = f"{len(split.labeled)} labeled, {len(split.unlabeled)} unlabeled{other}{validation}"
    log.info("split   %s (%s)", counts, origin)
    for note in data.notes + split.notes:
        log.info("note    %s", note)
    counts = np.bincount(data.train.targets[split.labeled], minlength=len(data.classes))
    if counts.max() > IMBALANCED * counts.min() and settings.trainer.labeled_sampling == "natural":
        log.info("note    trainer.labeled_sampling=balanced draws the labeled images of rare classes more often")


def log_model(student: nn.Module, choices: Choices) -> None:
    """Log the network, its number of parameters and the method."""
    parameters = sum(parameter.numel() for parameter in student.parameters())
    log.info("model   %s, %s parameters, method %s", choices.model, f"{parameters:,}", choices.method)


def warn_of_slow_batch_norm(student: nn.Module, settings: Settings) -> None:
    """Warn if the running statistics of batch norm would still hold much of their initial values after the run."""
    remaining = batch_norm.remaining_initial_stats(student, settings.steps)
    if remaining <= MOST_INITIAL_STATISTICS:
        return
    message = f"{100 * remaining:.0f} % of the initial batch-norm statistics would be left after {settings.steps} steps"
    if "bn_momentum" in settings.model:
        sufficient = batch_norm.sufficient_momentum(settings.steps, MOST_INITIAL_STATISTICS)
        message += f"; use model.bn_momentum={sufficient:g} or more"
    log.warning("%s", message)

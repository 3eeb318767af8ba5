"""Training again with more labels: the table of all images of a run, and the command that reads it."""

import shlex

import numpy as np

from meanteacher.labeling.run_images import RunImages

REPLACED = ("split", "label", "validation", "unlabeled", "unlabeled_imbalance", "imbalance", "fresh", "hydra.run.dir")
"""Keys of the command of a run that a table replaces, or that belong to the first run alone."""

KEPT_BY_TABLE = ("dataset.image_size", "dataset.resize")
"""Keys of a data set that `dataset=table` has too."""


def image_table(run: RunImages) -> dict[str, list]:
    """Every image that the run knows, as columns: `paths`, `labels` (positions of classes, −1 for none) and `parts`.

    Labels are those the run has seen: of labeled, validation and test images. Training images that the run did not use
    are left out. Where images are files, `paths` are absolute and the test part is included; otherwise `paths` are
    names in the data set, whose own test part is used.
    """
    used = np.union1d(run.known, run.split.unlabeled)
    targets = run.data.train.targets
    labels = np.where(np.isin(used, run.known), targets[used], -1).tolist()
    parts = ["validation" if held_out else "train" for held_out in np.isin(used, run.split.validation)]
    paths = [run.path_of(position) for position in used]
    if run.test_files:
        paths += map(str, run.test_files)
        labels += run.data.test.targets.tolist()
        parts += ["test"] * len(run.test_files)
    return {"paths": paths, "labels": labels, "parts": parts}


def retraining_command(run: RunImages, chosen: np.ndarray) -> str:
    """The command that trains again with the labels in labels.csv. chosen: int64 [n], the images to label.

    `split=` where the data set knows the labels of all chosen images, as it does for benchmarks; `dataset=table` where
    they are new.
    """
    program, overrides = split_command(run.result.command)
    replaced = set(REPLACED)
    if not run.files or (run.data.train.targets[chosen] >= 0).all():
        added = ["split=labels.csv"]
    else:
        replaced |= {"dataset"} | {f"dataset.{key}" for key in run.settings.dataset.node}
        replaced -= set(KEPT_BY_TABLE)
        added = ["dataset=table", "dataset.file=labels.csv", "label=all"]
    kept = [override for override in overrides if override.partition("=")[0] not in replaced]
    return shlex.join([*program, *added, *kept])


def split_command(command: str) -> tuple[list[str], list[str]]:
    """The program and the overrides of a run's command."""
    words = shlex.split(command)
    start = next((i for i, word in enumerate(words) if "=" in word), len(words))
    return words[:start], words[start:]

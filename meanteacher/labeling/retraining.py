"""Training again with more labels: the table of all images of a run, and the command that reads it."""

import shlex

import numpy as np

from meanteacher.labeling.run_images import RunImages

REPLACED = ("split", "label", "unlabeled", "unlabeled_imbalance", "imbalance", "fresh", "hydra.run.dir")
"""Keys in the command of a run that a table replaces, or that belong to the first run alone."""


def reads_new_labels(run: RunImages, chosen: np.ndarray) -> bool:
    """Whether new labels must be read by `dataset=table`, because the data set itself does not know them all.

    chosen: int64 [n], the images to label. The data set knows the labels of a benchmark, which `split=` then reads.
    """
    return run.files is not None and bool((run.data.train.targets[chosen] < 0).any())


def image_table(run: RunImages, chosen: np.ndarray) -> dict[str, list]:
    """Every image that the run used, as columns: `paths`, `labels` (positions of classes, −1 for none) and `parts`.

    Labels are those the run has seen: of labeled, validation and test images. Where images are files, `paths` are
    absolute and the test part is included; otherwise `paths` are names in the data set, which has its own test part.
    `dataset=table` draws validation images among the labeled ones, so these are in the part `train` for it.
    """
    used = np.union1d(run.known, run.split.unlabeled)
    labels = np.where(np.isin(used, run.known), run.data.train.targets[used], -1).tolist()
    held_out = np.isin(used, run.split.validation) & (not reads_new_labels(run, chosen))
    parts = ["validation" if held else "train" for held in held_out]
    paths = [run.training_paths[position] for position in used]
    if run.test_files:
        paths += run.test_paths
        labels += run.data.test.targets.tolist()
        parts += ["test"] * len(run.test_files)
    return {"paths": paths, "labels": labels, "parts": parts}


def retraining_command(run: RunImages, chosen: np.ndarray) -> str | None:
    """The command that trains again with the labels in labels.csv. chosen: int64 [n], the images to label.

    COUNT stands for the number of labels where the command names it. None for a data set that neither consists of files
    nor knows the labels.
    """
    if not run.files and (run.data.train.targets[chosen] < 0).any():
        return None
    program, overrides = split_command(run.result.command)
    if reads_new_labels(run, chosen):
        replaced = {*REPLACED, "dataset", "dataset.root", "dataset.file"}
        added = ["dataset=table", "dataset.file=labels.csv", "label=all"]
    else:
        replaced = {*REPLACED, "validation"}
        added = ["split=labels.csv", "label=COUNT"]
    kept = [override for override in overrides if override.partition("=")[0] not in replaced]
    return run.result.from_anywhere(run.folder, shlex.join([*program, *kept, *added]))


def split_command(command: str) -> tuple[list[str], list[str]]:
    """The program and the overrides of a run's command."""
    words = shlex.split(command)
    start = next((i for i, word in enumerate(words) if "=" in word), len(words))  # of `python run.py` or the command
    return words[:start], words[start:]

"""The split.json of a run: written once, and compared with the split of the run's settings from then on.

A split follows from the settings and the images alone, so the file adds nothing to what a run computes. It is what the
user reads, and what other runs and programs can be given.
"""

import json
import logging
from pathlib import Path

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data import splits
from meanteacher.data.images import Dataset
from meanteacher.data.splits import Split

log = logging.getLogger(__name__)


def is_stored(path: Path, data: Dataset, split: Split, *, labeled_in_unlabeled: bool) -> bool:
    """Whether the file at `path` holds `split`. False if there is no file, or one that is torn, which is warned of.

    Raises UserError if the file is complete and holds other images, other labels or something else.
    """
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        log.warning("%s is damaged; it is written again, from the settings", path)
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give access to it, or use fresh=true") from None
    if not holds(path, data, split, labeled_in_unlabeled):
        raise UserError(
            f"{path}: does not hold the images and labels that the settings choose, so it was changed or comes from "
            f"another version; delete it to have it written again, or train on its images with output=DIR split=COPY"
        )
    return True


def holds(path: Path, data: Dataset, split: Split, labeled_in_unlabeled: bool) -> bool:
    """Whether a complete JSON file holds `split`."""
    try:
        stored = splits.read(path, data, labeled_in_unlabeled=labeled_in_unlabeled)
    except UserError as error:
        log.debug("%s", error)
        return False
    parts = ("labeled", "unlabeled", "validation")
    return all(np.array_equal(getattr(stored, part), getattr(split, part)) for part in parts)

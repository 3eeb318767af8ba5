"""Checkpoints: replaced atomically, the previous one kept, and verified when they are read."""

import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from meanteacher.config.errors import UserError, first_line

log = logging.getLogger(__name__)

FIELDS = {
    "step": int,
    "history": list,
    "seconds": float,
    "threads": int,
    "device": str,
    "precision": str,
    "compiled": bool,
    "method": dict,
    "optimizer": dict,
}
"""What a run reads of its checkpoint, with the types."""

CURRENT, PREVIOUS, TEMPORARY = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.tmp"


class Checkpoints:
    """The current and the previous checkpoint of one run, in its folder.

    digest, split: identify the run and its labeled images. They are stored in each checkpoint, so that no run continues
    from the state of another, or from one of other labels. Without `split`, any labels are accepted.
    """

    def __init__(self, folder: Path, digest: str, split: str | None = None):
        self.folder, self.digest, self.split = folder, digest, split

    def save(self, state: dict) -> None:
        """Save `state` as the current checkpoint; the one before it is kept as the previous checkpoint.

        The state is written to a temporary file and flushed to disk before the files are renamed, so that a crash at
        any time leaves a complete checkpoint behind. Raises UserError if it cannot be written; the checkpoints from
        before are then unchanged.
        """
        current, temporary = self.folder / CURRENT, self.folder / TEMPORARY
        try:
            with temporary.open("wb") as file:
                torch.save({"digest": self.digest, "split": self.split, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            if current.exists():
                os.replace(current, self.folder / PREVIOUS)
            os.replace(temporary, current)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            reason = getattr(error, "strerror", None) or "No space left on device, or an input/output error"
            raise UserError(
                f"{current}: cannot be written ({reason}); make room there, then rerun the command"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, device: torch.device) -> dict | None:
        """Load the newest valid checkpoint onto the device; None if there is none. Warns of each that is not valid.

        Valid: every checksum of the file is right, and it belongs to this run.
        """
        for path in (self.folder / CURRENT, self.folder / PREVIOUS):
            if not path.exists():
                continue
            try:
                return self.read(path, device)
            except Exception as error:  # torch, pickle and zipfile raise errors of many types for damaged files
                log.warning("%s is not used (%s)", path, first_line(error))
        return None

    def read(self, path: Path, device: torch.device) -> dict:
        """The state in a file. Raises ValueError if it is damaged or another run's, and errors of the readers."""
        state = load_verified(path, device)
        if not isinstance(state, dict) or state.get("digest") != self.digest:
            raise ValueError("it belongs to another run or another version")
        if self.split is not None and state.get("split") != self.split:
            raise ValueError("it was trained with other labeled images")
        if wrong := [name for name, kind in FIELDS.items() if not isinstance(state.get(name), kind)]:
            raise ValueError(f"it is not complete: {wrong[0]}")
        return state


def load_verified(path: Path, device: torch.device) -> Any:
    """What torch.save wrote: tensors on the device, and builtins. Raises ValueError if a checksum in it is wrong."""
    with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
        if damaged := archive.testzip():
            raise ValueError(f"damaged: wrong checksum of {damaged}")
    return torch.load(path, map_location=device, weights_only=True)

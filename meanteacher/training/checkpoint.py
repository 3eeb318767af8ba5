"""Checkpoints: replaced atomically, with the previous one kept, and read back as tensors and builtins only."""

import logging
import os
from pathlib import Path

import torch

log = logging.getLogger(__name__)

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict) -> None:
    """Save `state` as the current checkpoint of `folder`; the one before it is kept as the previous checkpoint.

    The state is written to a temporary file and flushed to disk before the files are renamed, so that a crash at any
    time leaves a complete checkpoint behind.
    """
    temporary = folder / "checkpoint.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / CURRENT).exists():
        os.replace(folder / CURRENT, folder / PREVIOUS)
    os.replace(temporary, folder / CURRENT)


def load(folder: Path, device: torch.device) -> dict | None:
    """Load the newest readable checkpoint of `folder` onto the device; None if there is none."""
    for name in (CURRENT, PREVIOUS):
        if (folder / name).exists():
            try:
                return torch.load(folder / name, map_location=device, weights_only=True)
            except Exception as error:
                log.warning("%s cannot be read (%s)", folder / name, str(error).splitlines()[0])
    return None

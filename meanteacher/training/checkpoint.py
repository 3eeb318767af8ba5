"""Checkpoints: written whole or not at all, the previous one kept, read back as tensors and builtins only."""

import logging
import os
from pathlib import Path

import torch

log = logging.getLogger(__name__)

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict) -> None:
    """Write `state` to a temporary file, flush it to disk, and put it in place; the last one becomes the previous one."""
    temporary = folder / "checkpoint.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / CURRENT).exists():
        os.replace(folder / CURRENT, folder / PREVIOUS)
    os.replace(temporary, folder / CURRENT)


def load(folder: Path, device: torch.device) -> dict | None:
    """The newest readable checkpoint in `folder`, or None."""
    for name in (CURRENT, PREVIOUS):
        if (folder / name).exists():
            try:
                return torch.load(folder / name, map_location=device, weights_only=True)
            except Exception as error:
                log.warning("%s cannot be read (%s)", folder / name, str(error).splitlines()[0])
    return None

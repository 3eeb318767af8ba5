"""Use of a finished run: predictions for images from the run folder alone.

This folder imports `runs` and everything below it. `comparison`, `benchmark` and what lies beside them may import it.
The names are imported when they are first used, because PyTorch takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meanteacher.inference.loading import load
    from meanteacher.inference.predictions import Predictions
    from meanteacher.inference.predictor import Predictor

__all__ = ["Predictions", "Predictor", "load"]

_MODULES = {"Predictions": "predictions", "Predictor": "predictor", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

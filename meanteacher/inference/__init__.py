"""Use of a finished run: predictions for images from the run folder alone.

This folder imports `runs` and everything below it. `comparison`, `benchmark` and what lies beside them may import it.
"""

from meanteacher.inference.loading import load
from meanteacher.inference.predictions import Predictions
from meanteacher.inference.predictor import Predictor

__all__ = ["Predictions", "Predictor", "load"]

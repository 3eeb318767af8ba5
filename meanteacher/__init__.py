"""Semi-supervised image classification around Mean Teacher: methods, splits, training and honest reports."""

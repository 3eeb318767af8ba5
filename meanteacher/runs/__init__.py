"""One run: from its settings to a finished run directory with result, checkpoint and pictures.

Imported by sweeps, comparison (which reads results) and benchmark. May import training, loggers, methods, models,
optim, data and config.
"""

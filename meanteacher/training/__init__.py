"""Trains a method: the loop, one step, evaluation, checkpoints, the device, signals, and measurements of loss and time.

Imported by runs, sweeps and benchmark. May import methods, loggers, models, optim, data and config.
"""

"""Measures the speed of a training step, next to a plain training loop and to the bound that the hardware sets.

Imported by nothing: `meanteacher benchmark` runs it. May import runs, training, methods, models, optim, data and
config.
"""

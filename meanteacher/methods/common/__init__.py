"""Parts that several methods share: losses, averages, mixup, weights of pseudo-labels, distribution alignment.

Methods import this package; it imports no method.
"""

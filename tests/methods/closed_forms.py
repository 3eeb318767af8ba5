"""Functions in NumPy that closed forms of losses consist of, and gradients by finite differences."""

import numpy as np
import torch


def f32(array):
    return torch.tensor(array, dtype=torch.float32)


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def ce(logits, target):
    """The cross-entropy of each image, [B], with class indices as targets."""
    return -np.log(softmax(logits)[np.arange(len(target)), target])


def kl(p, q):
    """KL(p ‖ q) of each image, [B]."""
    return (p * np.log(p / q)).sum(1)


def unit(rows):
    """Rows divided by their norms."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slope(function, at, h=1e-6):
    """The gradient of a scalar function of an array, computed with central differences."""
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = h
        gradient[place] = (function(at + step) - function(at - step)) / (2 * h)
    return gradient


def fairness_by_hand(p, weight, classes, histogram):
    """FreeMatch's fairness term for strong predictions p, [B, K], and the running means of the weak ones."""
    keep = weight > 0
    counts = np.bincount(p[keep].argmax(1), minlength=p.shape[1]) / keep.sum()
    a = classes / histogram
    b = np.array([m / c if c else 0 for m, c in zip(p[keep].mean(0), counts, strict=True)])
    a, b = a / a.sum(), b / b.sum()
    return sum(x * np.log(y) for x, y in zip(a, b, strict=True) if y)

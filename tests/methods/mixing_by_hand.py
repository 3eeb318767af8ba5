"""Mixup and sharpening in NumPy, and mixup with partners and weights that a test chooses."""

import numpy as np
import torch
from closed_forms import f32, softmax
from small_problems import TARGET

from meanteacher.methods.common import mixup
from meanteacher.optim.schedules import Constant

LINEAR = Constant(steps=100, warmup=0.5, warmup_shape="linear")
STEP = torch.tensor(20.0)
"""The value of LINEAR at this step is 0.4."""
ONE_HOT = np.eye(3)[TARGET]


def cross_entropy(logits, target):
    """The mean cross-entropy, with distributions as targets."""
    return -(target * np.log(softmax(logits))).sum(1).mean()


def sharpened(p, temperature):
    p = p ** (1 / temperature)
    return p / p.sum(1, keepdims=True)


def mixed(a, partner, weight):
    """Mixup of the rows of an array with the rows `partner`; one weight for each row, or one for all."""
    weight = np.broadcast_to(weight, len(a)).reshape(-1, *[1] * (a.ndim - 1))
    return weight * a + (1 - weight) * a[partner]


def give_draws(monkeypatch, *draws):
    """Make mixup draw these pairs of partners and weights, in order. The methods' alpha is 0.6."""
    partners, weights = [d[0] for d in draws], [d[1] for d in draws]

    def beta(alpha, count, device):
        weight = weights.pop(0)
        assert (alpha, count) == (0.6, len(weight))
        return f32(weight)

    monkeypatch.setattr(mixup, "draw_partners", lambda batch: torch.tensor(partners.pop(0)))
    monkeypatch.setattr(mixup, "draw_beta", beta)

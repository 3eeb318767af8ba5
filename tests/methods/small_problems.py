"""Linear networks and the images of one step, on which the tests compare losses with their closed forms."""

import numpy as np
import torch
from closed_forms import f32, softmax
from torch import nn

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.models.base import Network
from meanteacher.optim.schedules import Constant

STEP = torch.tensor(30.0)
RAMP = float(np.exp(-5 * (1 - 0.5) ** 2))
"""The value of `ramp` at STEP."""
TARGET = np.array([0, 1, 2, 0])
CLASSES, IMAGES = 3, 40
FACTS = {"num_classes": CLASSES, "num_images": IMAGES}


def ramp():
    return Constant(steps=100, warmup=0.6, warmup_shape="sigmoid")


def linear(weights):
    """A linear layer without bias that has these weights, [K, D]."""
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    layer.weight.data = f32(weights)
    return layer


def predictions(rng, n):
    """Random probabilities, [n, CLASSES]."""
    return softmax(2 * rng.normal(size=(n, CLASSES)))


def step_images(labeled, unlabeled):
    """The batches of a step from lists of their views: 4 labeled images of the classes TARGET, and unlabeled images."""
    return (
        Labeled(torch.arange(4), tuple(map(f32, labeled)), torch.tensor(TARGET)),
        Unlabeled(torch.arange(len(unlabeled[0])) + 10, tuple(map(f32, unlabeled))),
    )


class Problem:
    """A linear network, 4 labeled points in two views and 12 unlabeled points in three, and a method's step on them."""

    def __init__(self, seed=2):
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=(CLASSES, 5))
        self.x, self.x2 = rng.normal(size=(2, 4, 5))
        self.u, self.u2 = rng.normal(size=(2, 12, 5))
        self.target = np.array([0, 1, 2, 0])
        self.index = rng.permutation(IMAGES)[:12]
        self.u3 = rng.normal(size=(12, 5))

    def student(self):
        return linear(self.weights)

    def run(self, method, step=STEP):
        """The output of the step. The views are kept in `labeled` and `unlabeled`, with their gradients."""
        self.labeled = [f32(v).requires_grad_() for v in (self.x, self.x2)][: len(method.views.labeled)]
        self.unlabeled = [f32(v).requires_grad_() for v in (self.u, self.u2, self.u3)][: len(method.views.unlabeled)]
        output = method.training_step(
            Labeled(torch.arange(4), tuple(self.labeled), torch.tensor(self.target)),
            Unlabeled(torch.tensor(self.index), tuple(self.unlabeled)),
            step,
        )
        output.loss.backward()
        return output

    def judge_has_no_gradient(self):
        """Whether no gradient reached the weak views, which the pseudo-labels come from."""
        return self.unlabeled[0].grad is None or not self.unlabeled[0].grad.any()

    def z(self, images):
        """The logits of the network, in NumPy."""
        return images @ self.weights.T


class TinyNetwork(Network):
    """A 1×1 convolution, mean pooling and a linear classifier: 2 channels, 4 features, 3 classes."""

    feature_channels = 4

    def __init__(self, weights, top):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 1, bias=False)
        self.classifier = linear(top)
        self.conv.weight.data = f32(weights)[:, :, None, None]

    def features(self, images):
        return self.conv(images)

    def head(self, features):
        return self.classifier(self.pool(features))


def feature_map(weights, images):
    """The features of a `TinyNetwork`, in NumPy."""
    return np.einsum("dc,bchw->bdhw", weights, images)

"""Stand-in students for the methods of recipes, and one step's images for them."""

import torch
from torch import Tensor, nn

from meanteacher.config.settings import Settings
from meanteacher.config.trust import trust_packages
from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.methods import Method
from meanteacher.models.base import Network
from meanteacher.runs.build import construct_method

LABELED, UNLABELED, CLASSES = 30, 50, 4

COUNTS = {
    30: "labeled",
    50: "unlabeled",
    80: "labeled + unlabeled",
    100: "both views of unlabeled",
    130: "labeled + both views of unlabeled",
    150: "three views of unlabeled",
    160: "both views of labeled and of unlabeled",
    180: "labeled + three views of unlabeled",
    280: "labeled + five views of unlabeled",
    27: "unsure ones of unlabeled",
    43: "a third of labeled + both views of unlabeled",
    44: "a third of labeled + both views of unlabeled",
}
"""The images of a pass, or of a mean, by their number in the stand-in step."""


class Recorder(Network):
    """A student that records for each pass the number of images and whether it updates the running statistics."""

    def __init__(self, *, channels: int, classes: int):
        super().__init__()
        self.norm, self.classifier = nn.BatchNorm2d(channels), nn.Linear(channels, classes)
        self.feature_channels, self.passes = channels, []

    def features(self, images: Tensor) -> Tensor:
        self.passes.append((len(images), self.norm.training and self.norm.track_running_stats))
        return self.norm(images)


class Scaled(Network):
    """A student whose logits are `scale` times the mean of each channel."""

    def __init__(self, *, channels: int, classes: int):
        super().__init__()
        self.scale, self.classifier, self.feature_channels = nn.Parameter(torch.ones(())), nn.Identity(), channels

    def features(self, images: Tensor) -> Tensor:
        return self.scale * images


def stand_in(settings: Settings, student: type[Network]) -> Method:
    """The recipe's method in training mode around a stand-in student."""
    trust_packages(student.__module__)
    node = {"_target_": f"{student.__module__}.{student.__name__}"}
    settings = settings.replace({"model": node})
    return construct_method(settings, channels=CLASSES, classes=CLASSES, images=100).train()


def batches(method: Method) -> tuple[Labeled, Unlabeled]:
    """One step's images, all different: image i is drawn once per view."""
    sizes = (LABELED, method.views.labeled), (UNLABELED, method.views.unlabeled)
    labeled, unlabeled = (tuple(3 * torch.randn(n, CLASSES, 4, 4) for _ in views) for n, views in sizes)
    index = torch.arange(LABELED + UNLABELED)
    return (
        Labeled(index[:LABELED], labeled, index[:LABELED] % CLASSES),
        Unlabeled(index[LABELED:], unlabeled),
    )

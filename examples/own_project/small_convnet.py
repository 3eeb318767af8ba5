"""A small convolutional network."""

from torch import Tensor, nn

from meanteacher.config.types import PositiveInt
from meanteacher.models import Network


class SmallConvNet(Network):
    """Three 3×3 convolutions with batch norm: float32 [B, channels, H, W] → logits [B, classes]."""

    def __init__(self, *, channels: PositiveInt, classes: PositiveInt, width: PositiveInt):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((channels, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(4 * width, classes)
        self.feature_channels = 4 * width

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: [B, 4 · width, H/4, W/4]."""
        return self.layers(images)

    def head(self, features: Tensor) -> Tensor:
        """Logits [B, classes] of a feature map."""
        return self.classifier(features.mean((2, 3)))

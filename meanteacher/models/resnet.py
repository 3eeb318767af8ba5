"""Residual networks (He et al. 2016, arXiv 1512.03385) with the stem for small images: 3×3, stride 1, no pooling."""

from torch import Tensor, nn
from torch.nn.functional import relu

from meanteacher.config.types import Fraction, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import batch_norm_constructor


class Block(nn.Module):
    """conv 3×3, BN, ReLU, conv 3×3, BN, plus the input (1×1 conv and BN of it where the shape changes), ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            norm(outputs),
        )
        same = inputs == outputs and stride == 1
        projected = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        self.shortcut = nn.Identity() if same else projected

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.shortcut(x) + self.body(x))


class ResNet(Network):
    """Four stages of `blocks` basic blocks, `width` channels in the first, twice as many in each next one (18 layers: 2 blocks)."""

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        blocks: PositiveInt,
        width: PositiveInt,
        bn_momentum: Fraction,
        bn_epsilon: PositiveFloat,
    ):
        super().__init__()
        norm = batch_norm_constructor(momentum=bn_momentum, eps=bn_epsilon, shift=0.0)
        stages, inputs = [], width
        for stage in range(4):
            outputs = width * 2**stage
            for number in range(blocks):
                stages.append(Block(inputs, outputs, 2 if stage and not number else 1, norm))
                inputs = outputs
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())
        self.blocks, self.feature_channels = nn.Sequential(*stages), inputs
        self.classifier = nn.Linear(inputs, classes)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: [B, 8·width, H/8, W/8]."""
        return self.blocks(self.stem(images))

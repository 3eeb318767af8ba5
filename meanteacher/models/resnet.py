"""Residual networks (He et al. 2016, arXiv 1512.03385) with a stem for small images: 3×3, stride 1, no pooling."""

from torch import Tensor, nn
from torch.nn.functional import relu

from meanteacher.config.types import Fraction, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import batch_norm_constructor


class Block(nn.Module):
    """A basic block: 3×3 convolution, BN, ReLU, 3×3 convolution, BN, plus the shortcut, ReLU.

    The shortcut is the identity, or a 1×1 convolution and BN where the shape changes.
    """

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
    """A residual network with four stages of basic blocks: float32 [B, channels, H, W] → logits [B, classes].

    blocks: the number of blocks in each stage; 2 gives ResNet-18. width: the channels of the first stage; each later
    stage has twice the channels of the stage before. bn_momentum: in PyTorch's convention, the weight of a batch.
    """

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

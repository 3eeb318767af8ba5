"""Shake-shake networks (Gastaldi 2017, arXiv 1705.07485), which the Mean Teacher paper trains on CIFAR-10."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from meanteacher.config.errors import UserError
from meanteacher.config.types import Fraction, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import batch_norm_constructor


def shake(first: Tensor, second: Tensor, training: bool) -> Tensor:
    """Mix the outputs of two branches, [B, C, H, W] each: α·first + (1 − α)·second with α ~ U(0, 1) for each image.

    The backward pass replaces α by an independent β ~ U(0, 1). Without `training`, the result is the mean of both.
    """
    if not training:
        return (first + second) / 2
    alpha, beta = torch.rand(2, len(first), 1, 1, 1, device=first.device, dtype=first.dtype)
    difference = first - second
    return second + beta * difference + ((alpha - beta) * difference).detach()


class Block(nn.Module):
    """A residual block with two branches, whose outputs are mixed by `shake` and added to the shortcut.

    Each branch consists of ReLU, 3×3 convolution, BN, ReLU, 3×3 convolution, BN.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm):
        super().__init__()

        def branch() -> nn.Module:
            return nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                norm(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                norm(outputs),
            )

        self.one, self.two = branch(), branch()
        self.shortcut = nn.Identity() if inputs == outputs else Shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + shake(self.one(x), self.two(x), self.training)


class Shortcut(nn.Module):
    """A shortcut that changes the shape: two subsampled paths with half of the output channels each, then BN.

    The second path is shifted by one pixel down and right before it is subsampled.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm):
        super().__init__()
        self.stride = stride
        self.one = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.two = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        paths = (self.one(avg_pool2d(x, 1, self.stride)), self.two(avg_pool2d(shifted, 1, self.stride)))
        return self.norm(torch.cat(paths, 1))


class ShakeShake(Network):
    """Shake-shake depth 2×width d: float32 [B, channels, H, W] → logits [B, classes].

    width: the channels of each branch in the first of the three stages; each later stage has twice the channels of the
    stage before. Convolutions start at N(0, 2 / fan-out), as in the paper's code. bn_momentum: in PyTorch's convention,
    the weight of the newest batch in the running statistics. Raises UserError unless depth is 6n + 2 with n ≥ 1.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        depth: PositiveInt,
        width: PositiveInt,
        bn_momentum: Fraction,
        bn_epsilon: PositiveFloat,
    ):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(
                f"model.depth={depth}: a shake-shake network's depth is 6n + 2, for example 8, 14, 20 or 26"
            )
        norm = batch_norm_constructor(momentum=bn_momentum, eps=bn_epsilon, shift=0.0)
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), norm(16))
        blocks, inputs = [], 16
        for stage in range(3):
            outputs = width * 2**stage
            for number in range((depth - 2) // 6):
                blocks.append(Block(inputs, outputs, 2 if stage and not number else 1, norm))
                inputs = outputs
        self.blocks, self.feature_channels = nn.Sequential(*blocks), inputs
        self.classifier = nn.Linear(inputs, classes)
        self.apply(initialize)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: [B, 4·width, H/4, W/4]."""
        return relu(self.blocks(self.stem(images)))


def initialize(module: nn.Module) -> None:
    """Initialize a convolution in place."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

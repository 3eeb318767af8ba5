"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146) as the SSL literature uses them."""

from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import norm_layer


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """x + body(BN and activation of x) with body: conv 3×3, BN, activation, dropout, conv 3×3.

    A 1×1 convolution replaces x in the sum where the shape changes. preactivate: the shortcut also starts from the activated
    input, as in the first block of the network.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, preactivate: bool, norm, activation, dropout: float):
        super().__init__()
        self.enter = nn.Sequential(norm(inputs), activation())
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride),
            norm(outputs),
            activation(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            conv(outputs, outputs, 3, 1),
        )
        self.shortcut = nn.Identity() if (inputs, stride) == (outputs, 1) else conv(inputs, outputs, 1, stride)
        self.preactivate = preactivate

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        return self.shortcut(entered if self.preactivate else x) + self.body(entered)


class WideResNet(Network):
    """WRN-depth-width: float [B, channels, H, W] → logits [B, classes].

    stages: number of stages with equally many blocks; each has twice the channels of the stage before it. The first stage
    divides the sides by first_stride, every other one by 2. slope: negative slope of LeakyReLU. bn_momentum: PyTorch's
    convention, where 0.001 keeps 0.999 of the running statistics. bn_shift: α of `PSBatchNorm2d`, 0 for plain batch norm.
    Convolutions are initialized by Kaiming normal over fan-out (He et al. 2015).
    Raises UserError if depth is not 2 · stages · n + stages + 1.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        depth: PositiveInt,
        width: PositiveInt,
        stages: PositiveInt,
        first_stride: PositiveInt,
        dropout: Decay,
        activation: Literal["leaky_relu", "mish"],
        slope: NonNegativeFloat,
        bn_momentum: Fraction,
        bn_epsilon: PositiveFloat,
        bn_shift: NonNegativeFloat,
    ):
        super().__init__()
        count, rest = divmod(depth - stages - 1, 2 * stages)
        if count < 1 or rest:
            depths = ", ".join(str(2 * stages * n + stages + 1) for n in (1, 2, 3, 4, 6))
            raise UserError(f"model.depth={depth}: a WideResNet with {stages} stages has a depth of {depths}, …")
        norm = norm_layer(momentum=bn_momentum, eps=bn_epsilon, shift=bn_shift)

        def act() -> nn.Module:
            return nn.Mish(inplace=True) if activation == "mish" else nn.LeakyReLU(slope, inplace=True)

        blocks, inputs = [], 16
        for stage in range(stages):
            outputs = 16 * width * 2**stage
            for i in range(count):
                stride = (2 if stage else first_stride) if i == 0 else 1
                blocks.append(Block(inputs, outputs, stride, not blocks, norm, act, dropout))
                inputs = outputs
        self.stem = conv(channels, 16, 3, 1)
        self.blocks = nn.Sequential(*blocks)
        self.exit = nn.Sequential(norm(inputs), act())
        self.classifier = nn.Linear(inputs, classes)
        self.feature_channels = inputs
        self.apply(initialize)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, [B, feature_channels, H/4, W/4] with three stages and first_stride 1."""
        return self.exit(self.blocks(self.stem(images)))

    def head(self, features: Tensor) -> Tensor:
        return self.classifier(self.pool(features))


def initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)

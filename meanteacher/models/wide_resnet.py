"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146), as used for semi-supervised learning."""

from collections.abc import Callable

from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.config.types import Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import batch_norm_constructor


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """A residual block: BN, activation, 3×3 convolution, BN, activation, dropout, 3×3 convolution, plus the shortcut.

    The shortcut is the identity, or a 1×1 convolution where the shape changes. preactivated: which of the two starts
    from the normalized and activated input instead of from the input itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        preactivated: Literal["both", "body", "neither"],
        norm: Callable[[int], nn.Module],
        activation: Callable[[], nn.Module],
        dropout: float,
    ):
        super().__init__()
        self.enter = nn.Identity() if preactivated == "neither" else nn.Sequential(norm(inputs), activation())
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride),
            norm(outputs),
            activation(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            conv(outputs, outputs, 3, 1),
        )
        self.shortcut = nn.Identity() if (inputs, stride) == (outputs, 1) else conv(inputs, outputs, 1, stride)
        self.preactivated_shortcut = preactivated == "both"

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        return self.shortcut(entered if self.preactivated_shortcut else x) + self.body(entered)


class WideResNet(Network):
    """WRN-depth-width: float32 [B, channels, H, W] → logits [B, classes].

    Each of the `stages` has the same number of blocks and twice the channels of the stage before. The first stage
    divides the height and width of the images by `first_stride`, the others by 2. first_blocks: the input of the first
    convolution in the first block of every stage but the first. `preactivated`: the normalized and activated input, as
    in the paper and in google-research/mixmatch (libml/models.py, 77bf67d); `raw`: the input itself, as in TorchSSL
    (models/nets/wrn.py, 99cf3eb) and USB 0.3.2 (nets/wrn/wrn.py), which compute a batch norm there without using its
    output; it is left out here. slope: that of LeakyReLU.
    bn_momentum: in PyTorch's convention, the weight of the newest batch in the running statistics. bn_shift: alpha of
    `PSBatchNorm2d`, or 0 for plain batch norm. Convolutions are initialized by Kaiming normal with fan-out (He et al.
    2015, arXiv 1502.01852). Raises UserError unless depth is 2·stages·n + stages + 1 with n ≥ 1.
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
        first_blocks: Literal["preactivated", "raw"],
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
        norm = batch_norm_constructor(momentum=bn_momentum, eps=bn_epsilon, shift=bn_shift)

        def act() -> nn.Module:
            return nn.Mish(inplace=True) if activation == "mish" else nn.LeakyReLU(slope, inplace=True)

        blocks, inputs = [], 16
        for stage in range(stages):
            outputs = 16 * width * 2**stage
            for i in range(count):
                stride = (2 if stage else first_stride) if i == 0 else 1
                raw = i == 0 and stage > 0 and first_blocks == "raw"
                preactivated = "both" if not blocks else "neither" if raw else "body"
                blocks.append(Block(inputs, outputs, stride, preactivated, norm, act, dropout))
                inputs = outputs
        self.stem = conv(channels, 16, 3, 1)
        self.blocks = nn.Sequential(*blocks)
        self.exit = nn.Sequential(norm(inputs), act())
        self.classifier = nn.Linear(inputs, classes)
        self.feature_channels = inputs
        self.apply(initialize)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: [B, feature_channels, H/4, W/4] with three stages and a first stride of 1."""
        return self.exit(self.blocks(self.stem(images)))


def initialize(module: nn.Module) -> None:
    """Initialize a convolution or linear layer in place."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)

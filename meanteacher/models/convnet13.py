"""The 13-layer convolutional network of Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780, table 6)."""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, max_pool2d
from torch.nn.utils.parametrizations import weight_norm

from meanteacher.config.types import Decay, Fraction, Literal, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.models.base import Network
from meanteacher.models.batch_norm import MeanOnlyBatchNorm

LAYERS = (
    (128, 3, 1),
    (128, 3, 1),
    (128, 3, 1),
    (256, 3, 1),
    (256, 3, 1),
    (256, 3, 1),
    (512, 3, 0),
    (256, 1, 0),
    (128, 1, 0),
)
"""The output channels, kernel size and padding of each convolution; pooling and dropout follow the third and sixth."""


class ConvNet13(Network):
    """The 13-layer network: float32 [B, channels, H, W] → logits [B, classes].

    norm: `mean_only` uses weight normalization and mean-only batch normalization (Salimans & Kingma 2016, arXiv
    1602.07868) for every convolution and for the classifier, as in the paper, but without data-dependent initialization
    of the scales. `batch` uses plain batch normalization after every convolution, as in most reimplementations.
    The paper's input noise is an operation of the augmentation. slope: the negative slope of LeakyReLU.
    bn_momentum: in PyTorch's convention, the weight of the newest batch in the running statistics.
    """

    def __init__(
        self,
        *,
        channels: PositiveInt,
        classes: PositiveInt,
        norm: Literal["mean_only", "batch"],
        dropout: Decay,
        slope: NonNegativeFloat,
        bn_momentum: Fraction,
        bn_epsilon: PositiveFloat,
    ):
        super().__init__()
        self.slope, self.feature_channels = slope, LAYERS[-1][0]
        convolutions, norms, inputs = [], [], channels
        for outputs, size, padding in LAYERS:
            conv = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False)
            nn.init.kaiming_normal_(conv.weight, a=slope)
            mean_only = norm == "mean_only"
            convolutions.append(weight_norm(conv) if mean_only else conv)
            norms.append(
                MeanOnlyBatchNorm(outputs, momentum=bn_momentum)
                if mean_only
                else nn.BatchNorm2d(outputs, momentum=bn_momentum, eps=bn_epsilon)
            )
            inputs = outputs
        self.convolutions, self.norms, self.dropout = (
            nn.ModuleList(convolutions),
            nn.ModuleList(norms),
            nn.Dropout(dropout),
        )
        linear = nn.Linear(inputs, classes, bias=norm == "batch")
        self.classifier = weight_norm(linear) if norm == "mean_only" else linear
        self.last = MeanOnlyBatchNorm(classes, momentum=bn_momentum) if norm == "mean_only" else nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: [B, 128, H/4 − 2, W/4 − 2]."""
        for number, (conv, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), 1):
            images = leaky_relu(norm(conv(images)), self.slope)
            if number in (3, 6):
                images = self.dropout(max_pool2d(images, 2))
        return images

    def head(self, features: Tensor) -> Tensor:
        return self.last(self.classifier(self.pool(features)))

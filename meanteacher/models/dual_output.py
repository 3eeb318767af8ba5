"""Any network with a second output, for `mean_teacher_dual`."""

from torch import Tensor, nn

from meanteacher.models.base import Network


class DualOutput(Network):
    """A network with a second linear head on its pooled features. `forward` gives the logits of the network itself."""

    def __init__(self, network: Network, classes: int):
        super().__init__()
        self.network, self.second = network, nn.Linear(network.feature_channels, classes)
        self.feature_channels = network.feature_channels

    def features(self, images: Tensor) -> Tensor:
        return self.network.features(images)

    def pool(self, features: Tensor) -> Tensor:
        return self.network.pool(features)

    def head(self, features: Tensor) -> Tensor:
        return self.network.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the network and of the second head, [B, K] each."""
        features = self.features(images)
        return self.head(features), self.second(self.pool(features))

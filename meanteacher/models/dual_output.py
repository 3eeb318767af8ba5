"""A network with a second linear output."""

from torch import Tensor, nn

from meanteacher.models.base import Network


class DualOutput(nn.Module):
    """A network with a second linear head on its pooled features. `forward` returns the logits of the network alone."""

    def __init__(self, network: Network, classes: int):
        super().__init__()
        self.network, self.second = network, nn.Linear(network.feature_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the network and those of the second head, [B, K] each."""
        features = self.network.features(images)
        return self.network.head(features), self.second(self.network.pool(features))

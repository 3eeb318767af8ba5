"""Any network with a second output, for `mean_teacher_dual`."""

from torch import Tensor, nn


class DualOutput(nn.Module):
    """A network with a second linear head on the mean of its last feature map. `forward` gives the network's own logits."""

    def __init__(self, network: nn.Module, classes: int):
        super().__init__()
        self.network, self.second = network, nn.Linear(network.feature_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Its own logits and the second head's: [B, K] each."""
        features = self.network.features(images)
        return self.network.head(features), self.second(features.mean((2, 3)))

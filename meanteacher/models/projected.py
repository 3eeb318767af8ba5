"""A network with a projection head: embeddings of length 1 beside the logits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meanteacher.models.base import Network


class Projected(nn.Module):
    """A network with two linear layers, ReLU between them, on its pooled features, scaled to length 1: the embedding.

    The first layer keeps the number of features; the second has `dimension` outputs. `forward` returns the logits of
    the network alone.
    """

    def __init__(self, network: Network, dimension: int):
        super().__init__()
        width = network.feature_channels
        self.network = network
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimension))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def both(self, *batches: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Logits, float32 [B_i, K], and embeddings, float32 [B_i, dimension], of each batch of images.

        They come from one forward pass: all batches share BatchNorm statistics.
        """
        features = self.network.features(torch.cat(batches))
        embeddings = F.normalize(self.projection(self.network.pool(features)).float(), dim=1)
        sizes = [len(batch) for batch in batches]
        return tuple(zip(self.network.head(features).float().split(sizes), embeddings.split(sizes), strict=True))

"""The contract between networks and methods."""

from torch import Tensor, nn


class Network(nn.Module):
    """A classifier that is split into features, pooling and a head.

    Constructor: keyword arguments, of which `channels` (of the images) and `classes` come from the data set and all others
    from the yaml file. A subclass sets `feature_channels` and implements `features` and `head`:

    ============  =================================================  ==================================================
    part          shapes                                             used by
    ============  =================================================  ==================================================
    ``forward``   images [B, channels, H, W] → logits [B, classes]   every method
    ``features``  images → last features, [B, C, h, w] preferably    methods with ``needs_features`` (a further head)
    ``pool``      features → [B, C]                                  the same
    ``head``      features → logits                                  the same
    ============  =================================================  ==================================================

    C is `feature_channels`. Methods with ``needs_feature_map`` perturb features at their positions and require
    [B, C, h, w]; the others also accept tokens [B, N, C], maps [B, h, w, C] and vectors [B, C].
    A network that cannot be split overrides `forward` alone; methods that need more are refused before data is loaded.
    """

    feature_channels: int

    def features(self, images: Tensor) -> Tensor:
        """The last features before pooling. images: float [B, channels, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} defines no features")

    def head(self, features: Tensor) -> Tensor:
        """Logits [B, classes] of `features`."""
        raise NotImplementedError(f"{type(self).__name__} defines no head")

    def pool(self, features: Tensor) -> Tensor:
        """The mean over positions, [B, feature_channels].

        features: [B, C, h, w], [B, h, w, C], [B, N, C] or [B, C]. A map of four dimensions with C channels in its second
        dimension is taken as [B, C, h, w].
        """
        if features.ndim == 2:
            return features
        if features.ndim == 4 and features.shape[1] == self.feature_channels:
            return features.mean((2, 3))
        return features.flatten(1, -2).mean(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.features(images))

"""The contract between networks and methods."""

from torch import Tensor, nn

from meanteacher.models.layers import split_layers
from meanteacher.models.weights import WeightsInput


class Network(nn.Module):
    """A classifier that is split into a feature extractor and a head: float32 [B, C, H, W] → logits [B, K].

    A subclass sets `feature_channels`, implements `features`, and either sets `classifier`, a layer from the pooled
    features [B, feature_channels] to logits, or implements `head`. The run passes `channels` (C) and `classes` (K) as
    keyword arguments to the constructor; all other arguments, also keyword-only, come from the network's yaml file.
    A constructor raises UserError for values that the network does not support; the run calls it with placeholders for
    `channels` and `classes` before it loads the images, so that such errors appear at once.

    Every method calls `forward`. Some need more:

    - ReMixMatch, CR-Match, SimMatch, CoMatch and Mean Teacher with two outputs attach layers to the pooled features:
      they call `features`, `pool` and `head`.
    - CCT perturbs a feature map of shape [B, feature_channels, h, w], and CR-Match projects it: they need
      `has_feature_map`.
    """

    feature_channels: int
    """The number of channels of the features, that is, the size of the pooled features."""

    has_feature_map: bool = True
    """Whether `features` returns a feature map of shape [B, feature_channels, h, w]. False for other layouts."""

    classifier: nn.Module

    weights_input: WeightsInput | None = None
    """How images must be normalized for the weights that were loaded; None where the data's own statistics are used."""

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """The parameters from the input to the classifier, one list per layer; see `split_layers`.

        With `optimizer.layer_decay`, the learning rate falls with the distance from the last layer.
        """
        return split_layers(self)

    def features(self, images: Tensor) -> Tensor:
        """The features of the last layer before the classifier, at all positions.

        A feature map [B, feature_channels, h, w]; or channels-last [B, h, w, feature_channels], tokens
        [B, N, feature_channels] or a vector [B, feature_channels], with `has_feature_map` set to False.
        """
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """The mean of the features over all positions: [B, feature_channels], in any of the layouts of `features`."""
        if features.ndim == 4 and features.shape[1] == self.feature_channels:
            return features.mean((2, 3))
        positions = tuple(range(1, features.ndim - 1))
        return features.mean(positions) if positions else features

    def head(self, features: Tensor) -> Tensor:
        """The logits [B, K] of the features."""
        return self.classifier(self.pool(features))

    def forward(self, images: Tensor) -> Tensor:
        """The logits [B, K] of the images."""
        return self.head(self.features(images))

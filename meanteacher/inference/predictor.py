"""A trained network with everything that turns an image into probabilities."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from meanteacher.config.errors import UserError
from meanteacher.data.augment import Augment
from meanteacher.inference.images import ImageBatch, ImageReader, as_sequence
from meanteacher.inference.predictions import Predictions, Rule
from meanteacher.models import Network
from meanteacher.runs.deployment import Calibration, Deployment
from meanteacher.training.calibration import conformal_threshold, precision_threshold
from meanteacher.training.device import autocast


class Predictor:
    """A network of a finished run; see `meanteacher.load`.

    Wherever `images` are taken, they are one or several paths or Pillow images, a uint8 array [N, H, W, C] or
    [H, W, C], or a uint8 tensor [N, C, H, W] or [C, H, W], of any size: they are read and resized as the run's images
    were. Results are on the CPU.

    model: the network in evaluation mode; augment: its `evaluation` normalizes images; network: the network's name.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        augment: Augment,
        deployment: Deployment,
        network: str,
        device: torch.device,
        precision: str,
        batch: int,
    ):
        self.model, self.augment, self.deployment, self.network = model, augment, deployment, network
        self.device, self.precision, self.batch = device, precision, batch
        self.reader = ImageReader(deployment.image_shape, deployment.resize)

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return self.deployment.classes

    @property
    def networks(self) -> list[str]:
        """The names of all networks of the run."""
        return self.deployment.networks

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the network takes."""
        return self.deployment.image_shape

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the network takes."""
        return self.deployment.image_shape[1:]

    @property
    def calibration(self) -> Calibration | None:
        """What is known from the validation images about this network; None if the run had none."""
        return (self.deployment.calibration or {}).get(self.network)

    @property
    def temperature(self) -> float:
        """The logits are divided by it; 1 if the run had no validation images."""
        return self.calibration.temperature if self.calibration else 1.0

    def logits(self, images: Any) -> Tensor:
        """Logits, float32 [N, K]. Raises UserError for an image that cannot be read."""
        return self._concatenate(images, self.model, len(self.classes))

    def probabilities(self, images: Any) -> Tensor:
        """Softmax of logits / temperature, float32 [N, K]. Raises UserError for an image that cannot be read."""
        return (self.logits(images) / self.temperature).softmax(dim=1)

    def features(self, images: Any) -> Tensor:
        """Features of the last layer before the classifier, pooled over positions: float32 [N, F].

        Raises UserError for an image that cannot be read, and for a network that is not a `meanteacher.models.Network`.
        """
        network = self.model
        if not isinstance(network, Network):
            raise UserError(f"{type(network).__name__} has no features; see meanteacher.models.Network")
        return self._concatenate(images, lambda batch: network.pool(network.features(batch)), network.feature_channels)

    def predict(self, images: Any, *, precision: float | None = None, coverage: float | None = None) -> Predictions:
        """Classes and calibrated probabilities. An image that cannot be read has an error in its place.

        precision: call images unsure so that this fraction of the others is classified correctly, judged by the
        validation images. coverage: list the classes that hold the true one with this probability. Give at most one.
        Raises UserError if the validation images do not suffice for it, or for `images` of another type.
        """
        rule = self.rule(precision, coverage)
        parts = list(self.predict_batches(images, rule))
        empty = torch.empty(0, len(self.classes))
        return Predictions(
            classes=self.classes,
            probabilities=torch.cat([part.probabilities for part in parts]) if parts else empty,
            errors=[error for part in parts for error in part.errors],
            rule=rule,
        )

    def predict_batches(self, images: Any, rule: Rule) -> Iterator[Predictions]:
        """The same in batches, as they are read. rule: from `rule`."""
        for batch in self.reader.batches(as_sequence(images), self.batch):
            probabilities = (self._forward(self.model, batch.pixels).cpu() / self.temperature).softmax(dim=1)
            probabilities[[row for row, error in enumerate(batch.errors) if error is not None]] = torch.nan
            yield Predictions(classes=self.classes, probabilities=probabilities, errors=batch.errors, rule=rule)

    def rule(self, precision: float | None = None, coverage: float | None = None) -> Rule:
        """When a prediction is unsure; see `predict`."""
        if precision is not None and coverage is not None:
            raise UserError("precision and coverage exclude each other; give one of them")
        wanted = {
            name: value for name, value in (("precision", precision), ("coverage", coverage)) if value is not None
        }
        for name, value in wanted.items():
            if not 0 < value < 1:
                raise UserError(f"{name}={value:g}: must be greater than 0 and smaller than 1, such as 0.95")
            if self.calibration is None:
                raise UserError(
                    f"{name}={value:g}: this run had no validation images to judge by; train with validation=N"
                )
        if precision is not None:
            return precise_rule(self.calibration, precision)
        return covering_rule(self.calibration, coverage) if coverage is not None else Rule()

    @torch.no_grad()
    def _forward(self, function: Any, pixels: Tensor) -> Tensor:
        """The function of normalized images, float32 on the device. pixels: uint8 [N, C, H, W]."""
        with autocast(self.device, self.precision):
            return function(self.augment.evaluation(pixels.to(self.device))).float()

    def _concatenate(self, images: Any, function: Any, width: int) -> Tensor:
        """The function of all images, float32 [N, width]. Raises UserError for an image that cannot be read."""
        parts, images = [torch.empty(0, width)], as_sequence(images)
        for batch in self.reader.batches(images, self.batch):
            check_errors(batch, images, sum(map(len, parts)))
            parts.append(self._forward(function, batch.pixels).cpu())
        return torch.cat(parts)


def check_errors(batch: ImageBatch, images: Any, start: int) -> None:
    """Raise UserError for the first image of a batch that cannot be read; the batch begins at position `start`."""
    for row, error in enumerate(batch.errors):
        if error is not None:
            image = images[start + row]
            name = image if isinstance(image, str) or hasattr(image, "__fspath__") else f"number {start + row}"
            raise UserError(f"image {name} cannot be read ({error}): delete or replace it")


def precise_rule(calibration: Calibration, precision: float) -> Rule:
    """The rule for a wanted precision. Raises UserError if the validation images do not show it."""
    confidences, correct = np.array(calibration.confidence), np.array(calibration.correct)
    found = precision_threshold(confidences, correct, precision)
    if found is None:
        raise UserError(
            f"precision={precision:g}: no threshold reaches it with at least {1 / (1 - precision):.0f} of the "
            f"{len(correct)} validation images ({correct.mean():.3f} of all are classified correctly); "
            "ask for less, or train with more validation images"
        )
    low, high = found.interval
    return Rule(
        least_confidence=found.threshold,
        text=f"sure from probability {found.threshold:.4f} on: {found.precision:.4f} of the {found.accepted} sure ones "
        f"among {len(correct)} validation images are classified correctly (95 % interval {low:.3f} to {high:.3f})",
    )


def covering_rule(calibration: Calibration, coverage: float) -> Rule:
    """The rule for a wanted coverage. Raises UserError if there are too few validation images."""
    scores = np.array(calibration.true_probability)
    threshold = conformal_threshold(scores, coverage)
    if threshold is None:
        raise UserError(
            f"coverage={coverage:g}: needs at least {np.ceil(coverage / (1 - coverage) - 1e-9):.0f} validation images, "
            f"but this run had {len(scores)}; ask for less, or train with more validation images"
        )
    return Rule(
        least_in_set=threshold,
        text=f"sets hold the classes of probability {threshold:.4f} or more: they contain the true class of "
        f"{(scores >= threshold).mean():.4f} of the {len(scores)} validation images",
    )

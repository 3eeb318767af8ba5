"""Evaluation of every network of a method on whole parts of the data: error, cross-entropy and calibration."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meanteacher.data.augment import Augment
from meanteacher.data.loader import ImageStore
from meanteacher.training.device import autocast


@dataclass(frozen=True)
class EvalSplit:
    """Images to evaluate on. storage holds the pixels; index int64 [N]: which of them; targets int64 [N] on the device."""

    storage: ImageStore
    index: np.ndarray
    targets: Tensor


def measure(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Error (0–1), mean cross-entropy (nats) and expected calibration error (15 equal bins, L1; Guo et al. 2017). [N, K], [N]."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    probs = logits.softmax(dim=1)
    return {
        "error": (probs.argmax(dim=1) != targets).float().mean(),
        "cross_entropy": F.cross_entropy(logits, targets),
        "ece": multiclass_calibration_error(probs, targets, num_classes=logits.shape[1], n_bins=15, norm="l1"),
    }


def forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).float()


def equal_batches(index: np.ndarray, most: int) -> np.ndarray:
    """The fewest batches of one size, at most `most`, filled up with the first positions again: a compiler takes one shape."""
    count = -(-len(index) // most)
    size = -(-len(index) // count)
    return np.resize(index, (count, size))


class Evaluator:
    """`evaluator(models)` gives `{part}/{model}/{metric}` as numbers, for every image of every part, in evaluation mode."""

    def __init__(
        self,
        *,
        parts: dict[str, EvalSplit],
        augment: Augment,
        batch: int,
        device: torch.device,
        precision: str,
        compiled: bool,
    ):
        self.parts, self.augment, self.batch = parts, augment, batch
        self.device, self.precision = device, precision
        self.forward = torch.compile(forward) if compiled else forward

    def images(self) -> int:
        """How many images one evaluation of one network passes through."""
        return sum(len(part.index) for part in self.parts.values())

    @torch.no_grad()
    def logits(self, model: nn.Module, part: str) -> Tensor:
        """float32 [N, K] on the device, without augmentation. Leaves the model in the mode it was in."""
        source, training = self.parts[part], model.training
        model.eval()
        with autocast(self.device, self.precision):
            chunks = [
                self.forward(model, self.augment.evaluation(source.storage.take(index).pixels))
                for index in equal_batches(source.index, self.batch)
            ]
        model.train(training)
        return torch.cat(chunks)[: len(source.index)]

    def __call__(self, models: dict[str, nn.Module]) -> dict[str, float]:
        found = {
            f"{part}/{name}/{metric}": value
            for part, source in self.parts.items()
            for name, model in models.items()
            for metric, value in measure(self.logits(model, part), source.targets).items()
        }
        return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))

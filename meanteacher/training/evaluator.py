"""Evaluation of every network of a method on whole parts of the data: error, cross-entropy and calibration error."""

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
    """The images of one part of the data.

    storage: the pixels; index: int64 [N], the positions of the images in it; targets: int64 [N] on the device, or None
    for images that are only predicted, because none of the classes is theirs.
    """

    storage: ImageStore
    index: np.ndarray
    targets: Tensor | None


def measure(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Error (0–1), mean cross-entropy (nats) and expected calibration error, as 0-dim tensors.

    The calibration error is the L1 norm over 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599).
    logits: float32 [N, K]; targets: int64 [N].
    """
    from torchmetrics.functional.classification import multiclass_calibration_error  # takes seconds to import

    probs = logits.softmax(dim=1)
    return {
        "error": (probs.argmax(dim=1) != targets).float().mean(),
        "cross_entropy": F.cross_entropy(logits, targets),
        "ece": multiclass_calibration_error(probs, targets, num_classes=logits.shape[1], n_bins=15, norm="l1"),
    }


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """The logits of the images in float32."""
    return model(images).float()


def split_into_equal_batches(index: np.ndarray, max_batch: int) -> np.ndarray:
    """The fewest batches of at most `max_batch` positions, int64 [batches, size].

    The last batch is filled up with the first positions, because a compiler needs batches of one shape.
    """
    count = -(-len(index) // max_batch)
    size = -(-len(index) // count)
    return np.resize(index, (count, size))


class Evaluator:
    """`evaluator(models)` returns `{part}/{model}/{metric}` for every part of the data with targets and every model.

    parts: the images by the name of the part. batch: the most images in a forward pass. compiled: use torch.compile.
    `latest` holds the logits of the most recent evaluation by part and model: float32 [N, K] on the host.
    """

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
        self.latest: dict[tuple[str, str], Tensor] = {}

    @property
    def measured(self) -> dict[str, EvalSplit]:
        """The parts with targets."""
        return {name: part for name, part in self.parts.items() if part.targets is not None}

    @property
    def images_per_evaluation(self) -> int:
        """The number of images that an evaluation passes through each network."""
        return sum(len(part.index) for part in self.measured.values())

    @torch.no_grad()
    def logits(self, model: nn.Module, part: str) -> Tensor:
        """The logits of a part, float32 [N, K] on the device: in evaluation mode, of images without augmentation.

        The model is left in the mode that it was in.
        """
        split, training = self.parts[part], model.training
        model.eval()
        with autocast(self.device, self.precision):
            batches = [
                self.forward(model, self.augment.evaluation(split.storage.take(index).pixels))
                for index in split_into_equal_batches(split.index, self.batch)
            ]
        model.train(training)
        return torch.cat(batches)[: len(split.index)]

    def __call__(self, models: dict[str, nn.Module]) -> dict[str, float]:
        """Evaluate the models, given by name. All metrics are copied to the host at once."""
        metrics = {}
        for part, split in self.measured.items():
            for name, model in models.items():
                logits = self.logits(model, part)
                scores = measure(logits, split.targets)
                metrics |= {f"{part}/{name}/{metric}": value for metric, value in scores.items()}
                self.latest[part, name] = logits.cpu()
        return dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True))

"""One training step: eager, or compiled and, on a GPU, replayed as one CUDA graph."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.data.batches import Batches
from meanteacher.data.loader import RawBatch
from meanteacher.data.random_streams import RunStream, derive_seed
from meanteacher.methods.base import Method, PseudoLabels
from meanteacher.methods.common.ema import EMA
from meanteacher.optim.optimizers import LearningRate, load_optimizer
from meanteacher.training.cuda_graph import CUDAGraphStep
from meanteacher.training.device import autocast
from meanteacher.training.meters import Meter
from meanteacher.training.pseudo_labels import PseudoLabelMeter

log = logging.getLogger(__name__)

SHOWN = 5
"""Images of each part of a batch that an error message names."""


class TrainStep:
    """`train_step(step)` is a pure function of (state, seed, step), so a resumed run gives the same bits.

    No host–device synchronization. average: an EMA of the student that is kept for evaluation only, or None. lr,
    schedule: the learning rate at step s is lr · schedule(s). compiled: run the forward pass and the loss through
    torch.compile, which takes about a minute at the first call; on a GPU the whole step, from the augmentation to the
    EMA, is then captured as one CUDA graph. classes: their number. state: a checkpoint with the content of
    `state_dict`, or None to start anew.
    """

    def __init__(
        self,
        *,
        method: Method,
        average: EMA | None,
        optimizer: torch.optim.Optimizer,
        lr: float,
        schedule,
        batches: Batches,
        seed: int,
        device: torch.device,
        precision: str,
        compiled: bool,
        classes: int,
        state: dict | None,
    ):
        self.method, self.average, self.optimizer, self.batches = method.train(), average, optimizer, batches
        self.seed, self.device, self.precision, self.compiled = seed, device, precision, compiled
        self.meter, self.pseudo_labels = Meter(), PseudoLabelMeter(classes, device)
        if state is not None:
            self.load_state_dict(state)
        self.learning_rate = LearningRate(optimizer, lr, schedule, device)
        self.loss_and_metrics = detached_metrics(method)
        if compiled:
            self.loss_and_metrics = torch.compile(self.loss_and_metrics, fullgraph=method.fullgraph)
        captured = compiled and device.type == "cuda"
        self.run_on_device = self.compute
        if captured:
            self.run_on_device = CUDAGraphStep(self.compute, [batches.generator], optimizer.zero_grad)

    @property
    def images_per_step(self) -> int:
        """Labeled plus unlabeled images."""
        return self.batches.images_per_step()

    def __call__(self, step: int) -> None:
        """Train step `step`, counted from 0."""
        torch.manual_seed(derive_seed(self.seed, RunStream.TRAINING_STEP, step))
        labeled, unlabeled = self.batches.draw(step)
        self.run_on_device(torch.full((), float(step), device=self.device), *labeled, *unlabeled)
        self.meter.count += 1

    def compute(self, step: Tensor, *images: Tensor) -> None:
        """The part of the step that runs on the device.

        step: 0-dim float. images: index and pixels of the labeled images, then of the unlabeled ones, as from
        `Batches.draw`.
        """
        self.learning_rate.set(step)
        labeled, unlabeled = self.batches.views(RawBatch(*images[:2]), RawBatch(*images[2:]), self.method.views)
        with autocast(self.device, self.precision):
            loss, metrics, pseudo_labels = self.loss_and_metrics(labeled, unlabeled, step)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.update_averages(step)
        self.meter.add({"loss": loss.detach(), **metrics})
        self.meter.watch(step, loss.detach())
        if pseudo_labels is not None:
            self.pseudo_labels.add(pseudo_labels, self.batches.loader.hidden_target(unlabeled.index))

    def update_averages(self, step: Tensor) -> None:
        """Update the method's own networks, such as its teacher, and the average from the student's new weights."""
        self.method.after_step(step)
        if self.average:
            self.average.update(self.method.student, step)

    def describe_divergence(self) -> str:
        """The first step whose loss was not finite, with the names of its images; all of them are in the log file."""
        if (step := self.meter.bad_step()) is None:
            return ""
        parts = self.batches.loader.names(step)
        for part, names in parts.items():
            log.debug("the %s images of step %d: %s", part, step + 1, ", ".join(names))
        shown = [
            f"{part} images {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
            for part, names in parts.items()
        ]
        return f", first in step {step + 1} with the {' and the '.join(shown)}"

    def models(self) -> dict[str, nn.Module]:
        """The networks to evaluate: those of the method, and the average if there is one. The one to deploy is last."""
        return self.method.eval_models() | ({"average": self.average.model} if self.average else {})

    def state_dict(self) -> dict:
        """Everything the next step depends on, and how the steps were computed, as tensors and builtins."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "compiled": self.compiled,
            "method": self.method.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
            "pseudo_labels": self.pseudo_labels.sums,
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from the content of `state_dict`."""
        self.meter.load_state_dict(state["meter"])
        if "pseudo_labels" in state:  # older checkpoints do not have it
            self.pseudo_labels.sums.copy_(state["pseudo_labels"])
        self.method.load_state_dict(state["method"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])


LossAndMetrics = tuple[Tensor, dict[str, Tensor], PseudoLabels | None]


def detached_metrics(method: Method) -> Callable[[Labeled, Unlabeled, Tensor], LossAndMetrics]:
    """The method's training step with its metrics and pseudo-labels detached.

    They are detached inside of what is compiled, so that no gradient is computed for them and they keep no graph alive.
    """

    def loss_and_metrics(labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> LossAndMetrics:
        output = method.training_step(labeled, unlabeled, step)
        pseudo_labels = output.pseudo_labels
        if pseudo_labels is not None:
            pseudo_labels = PseudoLabels(*(None if part is None else part.detach() for part in pseudo_labels))
        return output.loss, {name: value.detach() for name, value in output.metrics.items()}, pseudo_labels

    return loss_and_metrics

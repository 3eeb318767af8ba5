"""One training step: eager, or compiled and on a GPU replayed as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from meanteacher.data.batch import Labeled, Unlabeled
from meanteacher.data.batches import Batches
from meanteacher.data.loader import RawBatch
from meanteacher.data.random_streams import RunStream, derive_seed
from meanteacher.methods.base import Method
from meanteacher.methods.common.ema import EMA
from meanteacher.optim.optimizers import LearningRate
from meanteacher.training.cuda_graph import CUDAGraphStep
from meanteacher.training.device import autocast
from meanteacher.training.meters import Meter


class TrainStep:
    """`train_step(step)` is a pure function of (state, seed, step), so a resumed run gives the same bits. Reads nothing back.

    average: an EMA of the student kept for evaluation only, or None. compiled: forward pass and loss by torch.compile, which
    takes a minute at the first call; on a GPU the whole step, from the augmentation to the EMA, is then one CUDA graph.
    state: what `state_dict` gave, or None to start.
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
        state: dict | None,
    ):
        self.method, self.average, self.optimizer, self.batches = method, average, optimizer, batches
        self.seed, self.device, self.precision, self.compiled = seed, device, precision, compiled
        self.meter = Meter()
        if state is not None:
            self.load_state_dict(state)
        self.learning_rate = LearningRate(optimizer, lr, schedule, device)
        self.loss_and_metrics = detached_metrics(method)
        if compiled:
            self.loss_and_metrics = torch.compile(self.loss_and_metrics, fullgraph=method.fullgraph)
        graphed = compiled and device.type == "cuda"
        self.work = CUDAGraphStep(self.compute, [batches.generator]) if graphed else self.compute

    @property
    def images_per_step(self) -> int:
        return self.batches.images_per_step()

    def __call__(self, step: int) -> None:
        torch.manual_seed(derive_seed(self.seed, RunStream.TRAINING_STEP, step))
        labeled, unlabeled = self.batches.draw(step)
        self.work(torch.full((), float(step), device=self.device), *labeled, *unlabeled)
        self.meter.count += 1

    def compute(self, now: Tensor, *raw: Tensor) -> None:
        """All of the step that happens on the device. raw: index and pixels of the labeled, then of the unlabeled images."""
        self.learning_rate.set(now)
        labeled, unlabeled = self.batches.views(RawBatch(*raw[:2]), RawBatch(*raw[2:]), self.method.views)
        with autocast(self.device, self.precision):
            loss, metrics = self.loss_and_metrics(labeled, unlabeled, now)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.update_ema(now)
        self.meter.add({"loss": loss.detach(), **metrics})

    def update_ema(self, now: Tensor) -> None:
        """What the method does after the optimizer, and the average."""
        self.method.after_step(now)
        if self.average:
            self.average.update(self.method.student, now)

    def state_dict(self) -> dict:
        """Tensors and builtins: all that the next step depends on."""
        return {
            "method": self.method.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.meter.load_state_dict(state["meter"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])


def detached_metrics(method: Method) -> Callable[[Labeled, Unlabeled, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """The method's training step with its metrics detached, inside of what is compiled: no graph is kept for them."""

    def loss_and_metrics(labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        output = method.training_step(labeled, unlabeled, step)
        return output.loss, {name: value.detach() for name, value in output.metrics.items()}

    return loss_and_metrics

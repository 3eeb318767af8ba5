"""The contract that every method keeps."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from meanteacher.data.batch import Labeled, Unlabeled, Views


@dataclass(frozen=True)
class StepOutput:
    """What `Method.training_step` returns.

    loss: 0-dim tensor with gradient. metrics: 0-dim tensors by name, averaged over the log interval and logged as
    `train/<name>`; the training step detaches them.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A semi-supervised method. Networks and running state are submodules and buffers, so `state_dict()` is all of it.

    The constructor takes keyword arguments without defaults: the values of the method's yaml, and those of `student` (the
    network), `num_classes` and `num_images` (of the training part, for buffers with a row per image) that it names.
    A step performs no host–device synchronization and has no data-dependent shapes: masks are weights.
    """

    student: nn.Module
    views: Views
    fullgraph = True
    """Whether torch.compile captures `training_step` as one graph; False if the step takes a gradient of its own."""

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        """The loss of one step. step: 0-dim float32 tensor, counted from 0."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        """Called after the optimizer has made step `step`, for example to update a teacher."""

    def eval_models(self) -> dict[str, nn.Module]:
        """The networks to evaluate by name, the one to deploy last."""
        return {"student": self.student}

"""The contract every method keeps."""

from torch import Tensor, nn

from meanteacher.data.batch import Labeled, StepOutput, Unlabeled, Views


class Method(nn.Module):
    """A semi-supervised method: networks and running state as submodules and buffers, so `state_dict()` is all of it.

    A constructor takes keyword arguments without defaults: the values of its yaml, and of `student` (the network),
    `num_classes` and `num_images` (of the training part, for per-image buffers) those it names.
    A step holds no host sync and no data-dependent shape: masks are weights.
    """

    student: nn.Module
    views: Views
    fullgraph = True
    """Whether torch.compile can take `training_step` whole; not where it takes a gradient of its own."""

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        """The loss of one step. step: 0-dim float tensor, counted from 0."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        """Called after the optimizer's step `step`."""

    def eval_models(self) -> dict[str, nn.Module]:
        """The networks to evaluate, the one to deploy last."""
        return {"student": self.student}

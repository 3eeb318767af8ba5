"""The base class of all methods, and what a training step returns."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from meanteacher.data.batch import Labeled, Unlabeled, Views


class PseudoLabels(NamedTuple):
    """The labels that a method gave to the unlabeled images of a step. The training step compares them with the hidden
    labels, which the method never receives.

    target: int64 [B], or probabilities [B, K], of which the largest counts. weight: float [B], how much each counts in
    the loss, at least 0; None where all count 1. The training step detaches both.
    """

    target: Tensor
    weight: Tensor | None


@dataclass(frozen=True)
class StepOutput:
    """The result of a training step.

    loss: 0-dim float32, with gradient. metrics: 0-dim tensors by name, averaged over the log interval and logged as
    `train/<name>`; the training step detaches them. pseudo_labels: see `PseudoLabels`; None for a method without any.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    pseudo_labels: PseudoLabels | None = None


class Method(nn.Module):
    """A semi-supervised method. Networks and running state are submodules and buffers: `state_dict()` holds all of it.

    Constructor: keyword arguments without defaults. Of `student` (the network), `num_classes` and `num_images` (of the
    training part, for buffers with an entry per image) it receives those that it names; all others come from the yaml
    file. A training step contains no host–device synchronization and no data-dependent shape: masks are weights. A
    method with a teacher assigns a bound `Teacher` to `self.teacher`, which is then updated and evaluated.
    """

    student: nn.Module

    views: Views
    """Names of the augmented views of labeled and unlabeled images that `training_step` receives."""

    fullgraph = True
    """Whether torch.compile can compile `training_step` as one graph; False if it computes a gradient itself."""

    needs_features = False
    """Whether the method calls the student's `features` and `head`; see `meanteacher.models.Network`."""

    needs_feature_map = False
    """Whether the method needs a student with `Network.has_feature_map`."""

    needs_square_images = False

    def training_step(self, labeled: Labeled, unlabeled: Unlabeled, step: Tensor) -> StepOutput:
        """The loss of one step. step: 0-dim float32, counted from 0."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        """Called after the optimizer's step; updates the teacher if there is one. step: as in `training_step`."""
        if (teacher := getattr(self, "teacher", None)) is not None:
            teacher.update(self.student, step)

    def eval_models(self) -> dict[str, nn.Module]:
        """The networks to evaluate by name; the last one is the network to deploy."""
        teacher = getattr(self, "teacher", None)
        return {"student": self.student} | ({} if teacher is None else {"teacher": teacher.model})


def add_terms(
    supervised: Tensor,
    terms: dict[str, tuple[float | Tensor, Tensor]],
    pseudo_labels: PseudoLabels | None = None,
    **metrics: Tensor,
) -> StepOutput:
    """The loss supervised + Σ weight · term, and as metrics the unweighted terms and any further ones.

    terms: a weight and a 0-dim term by name. pseudo_labels: see `StepOutput`.
    """
    loss = supervised
    for weight, term in terms.values():
        loss = loss + weight * term
    unweighted = {name: term for name, (_, term) in terms.items()}
    return StepOutput(loss, {"supervised": supervised} | unweighted | metrics, pseudo_labels)

"""Build an optimizer without weight decay for batch norm and biases, and set its learning rate on the device."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def build_optimizer(
    factory: Callable[..., Optimizer], module: nn.Module, *, lr: float, decay_norm_and_bias: bool
) -> Optimizer:
    """Build an optimizer over the parameters of a module that require gradients.

    factory: an optimizer class, or a `functools.partial` of one that holds its other arguments, such as `weight_decay`.
    lr: the learning rate; it becomes a tensor, so that the training step can change it without host synchronization.
    decay_norm_and_bias: whether weight decay also applies to vectors (the weights of batch norm, and all biases).

    The fused implementation is used where the class has one. On CUDA the step can be captured in a CUDA graph.
    """
    options = {"fused": True, "capturable": all(parameter.is_cuda for parameter in module.parameters())}
    accepted = inspect.signature(factory).parameters
    supported = {name: value for name, value in options.items() if name in accepted}
    return factory(parameter_groups(module, decay_norm_and_bias), lr=torch.tensor(lr), **supported)


def parameter_groups(module: nn.Module, decay_norm_and_bias: bool) -> list[dict]:
    """Group the parameters that require gradients: with weight decay, and without. Empty groups are left out.

    The first group has the weight decay of the optimizer. The second holds the vectors, unless `decay_norm_and_bias`.
    timm has a function for this (`param_groups_weight_decay`), but importing timm takes seconds.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if decay_norm_and_bias:
        return [{"params": trained}]
    matrices = {"params": [parameter for parameter in trained if parameter.ndim > 1]}
    vectors = {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (matrices, vectors) if group["params"]]


class LearningRate:
    """Set the learning rate of every parameter group to `lr * schedule(step)` without host synchronization.

    Create it again after `optimizer.load_state_dict`, which replaces the tensor that the groups share.

    optimizer: its groups get one shared learning rate, a 0-dim float32 tensor on `device`.
    lr: the learning rate where the schedule gives 1.
    schedule: a function of the step (0-dim tensor) that returns a 0-dim tensor on the same device.
    """

    def __init__(self, optimizer: Optimizer, lr: float, schedule: Callable[[Tensor], Tensor], device: torch.device):
        self.base, self.schedule = lr, schedule
        self.tensor = torch.tensor(lr, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.tensor

    def set(self, step: Tensor) -> None:
        """Set the learning rate for a step. step: 0-dim tensor on the device."""
        self.tensor.copy_(self.base * self.schedule(step))

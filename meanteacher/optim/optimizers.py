"""Build an optimizer without weight decay for batch norm and biases, and set its learning rates on the device."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def build_optimizer(
    factory: Callable[..., Optimizer],
    module: nn.Module,
    *,
    lr: float,
    decay_norm_and_bias: bool,
    lr_scales: Mapping[nn.Parameter, float] = MappingProxyType({}),
) -> Optimizer:
    """Build an optimizer over the parameters of a module that require gradients.

    factory: an optimizer class, or a `functools.partial` of one that holds its other arguments, such as `weight_decay`.
    lr: the learning rate; it becomes a tensor, so that the training step can change it without host synchronization.
    decay_norm_and_bias: whether weight decay also applies to vectors (the weights of batch norm, and all biases).
    lr_scales: factors of the learning rate; 1 for parameters that are not in it.

    The fused implementation is used where the class has one. On CUDA the step can be captured in a CUDA graph.
    """
    options = {"fused": True, "capturable": all(parameter.is_cuda for parameter in module.parameters())}
    accepted = inspect.signature(factory).parameters
    supported = {name: value for name, value in options.items() if name in accepted}
    return factory(parameter_groups(module, decay_norm_and_bias, lr_scales), lr=torch.tensor(lr), **supported)


def parameter_groups(
    module: nn.Module, decay_norm_and_bias: bool, lr_scales: Mapping[nn.Parameter, float] = MappingProxyType({})
) -> list[dict]:
    """Group the parameters that require gradients: with weight decay, and without. Empty groups are left out.

    The first group has the weight decay of the optimizer. The second holds the vectors, unless `decay_norm_and_bias`.
    Each of them is one group for every value of `lr_scales`, which a group other than 1 holds as `lr_scale`.
    timm has a function for this (`param_groups_layer_decay`), but it sees the network alone, not the layers that a
    method adds, and importing timm takes seconds.
    """
    groups: dict[tuple[bool, float], dict] = {}
    for parameter in (parameter for parameter in module.parameters() if parameter.requires_grad):
        key = parameter.ndim <= 1 and not decay_norm_and_bias, lr_scales.get(parameter, 1.0)
        groups.setdefault(key, {"params": []})["params"].append(parameter)
    for (undecayed, scale), group in groups.items():
        group.update({"weight_decay": 0.0} if undecayed else {}, **({} if scale == 1 else {"lr_scale": scale}))
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def load_optimizer(optimizer: Optimizer, state: dict) -> None:
    """Load the state of an optimizer that may have been built on another kind of device.

    `capturable` stays as it was built: a CUDA graph cannot capture the step of an optimizer without it.
    """
    built = [{"capturable": group["capturable"]} if "capturable" in group else {} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, kept in zip(optimizer.param_groups, built, strict=True):
        group.update(kept)


class LearningRate:
    """Set the learning rate of every parameter group to `lr * schedule(step)` without host synchronization.

    A group with an `lr_scale` gets this multiple of it. Create it again after `optimizer.load_state_dict`, which
    replaces the tensors of the groups.

    optimizer: its groups of one scale get one shared learning rate, a 0-dim float32 tensor on `device`.
    lr: the learning rate where the schedule gives 1.
    schedule: a function of the step (0-dim tensor) that returns a 0-dim tensor on the same device.
    """

    def __init__(self, optimizer: Optimizer, lr: float, schedule: Callable[[Tensor], Tensor], device: torch.device):
        self.base, self.schedule = lr, schedule
        self.tensors: dict[float, Tensor] = {}
        for group in optimizer.param_groups:
            scale = group.get("lr_scale", 1.0)
            group["lr"] = self.tensors.setdefault(scale, torch.tensor(lr * scale, device=device))

    def set(self, step: Tensor) -> None:
        """Set the learning rates for a step. step: 0-dim tensor on the device."""
        rate = self.base * self.schedule(step)
        for scale, tensor in self.tensors.items():
            tensor.copy_(rate if scale == 1 else rate * scale)

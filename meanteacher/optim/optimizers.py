"""Construction of an optimizer with parameter groups, and a learning rate that is kept on the device."""

import inspect
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def build_optimizer(create: partial, module: nn.Module, *, decay_norm_and_bias: bool) -> Optimizer:
    """The optimizer of the parameters of `module` that require a gradient.

    create: a class of torch.optim with its arguments, among them `lr`. Without decay_norm_and_bias, parameters of one dimension
    (weights of normalization layers and all biases) have no weight decay. The implementation is fused and can be captured in a
    CUDA graph where the class offers that, because these two read the learning rate from a tensor without synchronization.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    # timm's param_groups_weight_decay does the same, but importing timm takes seconds
    decayed = [parameter for parameter in trained if decay_norm_and_bias or parameter.ndim > 1]
    others = [parameter for parameter in trained if not decay_norm_and_bias and parameter.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    on_gpu = all(parameter.is_cuda for parameter in trained)
    options = {"fused": True, "capturable": on_gpu}
    accepted = inspect.signature(create.func).parameters
    chosen = {name: value for name, value in options.items() if name in accepted}
    lr = torch.tensor(create.keywords["lr"])
    return create([group for group in groups if group["params"]], **chosen | {"lr": lr})


class LearningRate:
    """Sets lr · schedule(step) in every parameter group, without host–device synchronization.

    Construct it anew after `optimizer.load_state_dict`, which replaces the tensors.
    """

    def __init__(self, optimizer: Optimizer, lr: float, schedule, device: torch.device):
        self.base, self.schedule = lr, schedule
        self.tensor = torch.tensor(lr, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.tensor

    def set(self, step: Tensor) -> None:
        """step: 0-dim, on the device."""
        self.tensor.copy_(self.base * self.schedule(step))

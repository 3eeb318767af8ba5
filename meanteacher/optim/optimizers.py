"""Optimizers by name, with weight decay on or off for BatchNorm and biases, and a learning rate that lives on the device."""

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from meanteacher.config.types import Decay, NonNegativeFloat, PositiveFloat


def groups(module: nn.Module, weight_decay: float, decay_norm_and_bias: bool) -> list[dict]:
    """Two parameter groups: with weight decay, and without (vectors: BatchNorm's weights and all biases)."""
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if decay_norm_and_bias or p.ndim > 1]
    rest = [p for p in trained if not (decay_norm_and_bias or p.ndim > 1)]
    both = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in both if group["params"]]


def on_gpu(module: nn.Module) -> bool:
    """Whether a CUDA graph may hold the optimizer's step, which Adam wants to be told."""
    return all(p.is_cuda for p in module.parameters())


def sgd(
    *,
    module: nn.Module,
    lr: PositiveFloat,
    momentum: Decay,
    nesterov: bool,
    weight_decay: NonNegativeFloat,
    decay_norm_and_bias: bool,
) -> Optimizer:
    params = groups(module, weight_decay, decay_norm_and_bias)
    return SGD(params, lr=torch.tensor(lr), momentum=momentum, nesterov=nesterov and momentum > 0, fused=True)


def adam(
    *,
    module: nn.Module,
    lr: PositiveFloat,
    beta1: Decay,
    beta2: Decay,
    weight_decay: NonNegativeFloat,
    decay_norm_and_bias: bool,
) -> Optimizer:
    """Weight decay is added to the gradient."""
    params = groups(module, weight_decay, decay_norm_and_bias)
    return Adam(params, lr=torch.tensor(lr), betas=(beta1, beta2), fused=True, capturable=on_gpu(module))


def adamw(
    *,
    module: nn.Module,
    lr: PositiveFloat,
    beta1: Decay,
    beta2: Decay,
    weight_decay: NonNegativeFloat,
    decay_norm_and_bias: bool,
) -> Optimizer:
    """Weight decay is decoupled from the gradient (Loshchilov & Hutter 2019)."""
    params = groups(module, weight_decay, decay_norm_and_bias)
    return AdamW(params, lr=torch.tensor(lr), betas=(beta1, beta2), fused=True, capturable=on_gpu(module))


class LearningRate:
    """Sets lr · schedule(step) in every group, without a host sync. Make it anew after `optimizer.load_state_dict`."""

    def __init__(self, optimizer: Optimizer, lr: float, schedule, device: torch.device):
        self.base, self.schedule = lr, schedule
        self.tensor = torch.tensor(lr, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.tensor

    def set(self, step: Tensor) -> None:
        self.tensor.copy_(self.base * self.schedule(step))

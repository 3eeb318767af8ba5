"""Parameter groups, the device's learning rate, and equality with optimizers built directly from `torch.optim`."""

import functools

import pytest
import torch
from conftest import options, parsed
from torch import nn

from meanteacher.optim import LearningRate, build_optimizer, parameter_groups
from meanteacher.optim.optimizers import load_optimizer
from meanteacher.runs.build import build


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))


def train(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The parameters after three steps."""
    for seed in range(3):
        images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        module(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return list(module.parameters())


@pytest.mark.parametrize("option", options("optimizer"))
@pytest.mark.parametrize("decay_norm_and_bias", [False, True])
def test_optimizer_steps_equal_those_of_torch_optim(option, decay_norm_and_bias):
    settings = parsed(f"optimizer={option}", "optimizer.weight_decay=0.1").optimizer
    factory, ours, theirs = build(settings.node), network(), network()
    optimizer = build_optimizer(factory, ours, lr=0.05, decay_norm_and_bias=decay_norm_and_bias)
    decays = [0.1 if decay_norm_and_bias or parameter.ndim > 1 else 0.0 for parameter in theirs.parameters()]
    groups = [{"params": [p], "weight_decay": decay} for p, decay in zip(theirs.parameters(), decays, strict=True)]
    values = {name: value for name, value in settings.node.items() if name in ("momentum", "nesterov", "betas")}
    reference = factory.func(groups, lr=torch.tensor(0.05), fused=True, **values)
    for parameter, expected in zip(train(ours, optimizer), train(theirs, reference), strict=True):
        assert torch.equal(parameter, expected)


def test_weight_decay_leaves_out_vectors_and_frozen_parameters():
    module = network()
    module[0].weight.requires_grad_(False)
    matrices, vectors = parameter_groups(module, decay_norm_and_bias=False)
    assert len(matrices["params"]) == 1 and matrices["params"][0] is module[3].weight and "weight_decay" not in matrices
    assert len(vectors["params"]) == 4 and vectors["weight_decay"] == 0
    (everything,) = parameter_groups(module, decay_norm_and_bias=True)
    assert len(everything["params"]) == 5


def test_groups_without_parameters_are_left_out():
    (vectors,) = parameter_groups(nn.BatchNorm2d(3), decay_norm_and_bias=False)
    assert vectors["weight_decay"] == 0


def test_optimizers_without_a_fused_implementation_are_built():
    optimizer = build_optimizer(functools.partial(torch.optim.RMSprop), network(), lr=0.1, decay_norm_and_bias=False)
    assert isinstance(optimizer, torch.optim.RMSprop) and not optimizer.defaults["capturable"]


def test_learning_rate_is_shared_by_all_groups_and_follows_the_schedule():
    optimizer = build_optimizer(torch.optim.SGD, network(), lr=0.1, decay_norm_and_bias=False)
    learning_rate = LearningRate(optimizer, 0.1, lambda step: 1 - step / 10, torch.device("cpu"))
    learning_rate.set(torch.tensor(5.0))
    assert [group["lr"].item() for group in optimizer.param_groups] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize("option", options("optimizer"))
def test_a_state_from_another_kind_of_device_does_not_decide_whether_a_graph_can_capture_the_step(option):
    factory = build(parsed(f"optimizer={option}").optimizer.node)
    here, there = (build_optimizer(factory, network(), lr=0.1, decay_norm_and_bias=False) for _ in range(2))
    state = there.state_dict()
    for group in state["param_groups"]:
        group["momentum"] = 0.5
        if "capturable" in group:
            group["capturable"] = not group["capturable"]
    load_optimizer(here, state)
    for group, before in zip(here.param_groups, there.param_groups, strict=True):
        assert group["momentum"] == 0.5 and group.get("capturable") == before.get("capturable")

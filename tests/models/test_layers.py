"""The layers of networks by depth, and learning rates that fall with the distance from the last one."""

import pytest
import torch
from conftest import options, parsed, settings
from torch import nn

from meanteacher.models import Network
from meanteacher.models.layers import split_layers
from meanteacher.optim import LearningRate, build_optimizer
from meanteacher.runs.build import SkipRandomInitialization, build, construct_method
from meanteacher.runs.transfer import lr_scales

SMALL = {"shake_shake_26_2x96d": ["model.width=8"], "wrn_28_8": ["model.width=1"]}


def network(name: str, *overrides: str) -> Network:
    with SkipRandomInitialization():
        return build(settings(f"model={name}", *overrides)["model"], channels=3, classes=10)


@pytest.mark.parametrize("name", options("model"))
def test_every_parameter_is_in_one_layer_and_the_classifier_in_the_last(name):
    if name == "timm":
        pytest.importorskip("timm")
    one = network(name, *SMALL.get(name, []))
    layers = one.layer_parameters()
    counted = [id(parameter) for layer in layers for parameter in layer]
    assert sorted(counted) == sorted(map(id, one.parameters()))
    assert len(layers) > 1 and all(len(parameter) == 10 for parameter in layers[-1]) and layers[-1]


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 10), ("mobilenet_v3_small", 15), ("densenet121", 9), ("convnext_tiny", 23), ("vit_b_32", 14)],
)
def test_the_layers_of_torchvision_are_its_blocks(name, count):
    layers = network("torchvision", f"model.name={name}").layer_parameters()
    assert len(layers) == count and sorted(map(len, layers[-1])) == [10, 10]


def test_normalizations_and_loose_parameters_belong_to_a_neighboring_layer():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.ReLU(), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)))
    module.token = nn.Parameter(torch.zeros(1, 2))
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    layers = [[named[id(parameter)] for parameter in layer] for layer in split_layers(module)]
    first = ["token", "0.weight", "0.bias", "1.weight", "1.bias"]
    assert layers == [first, ["3.0.weight", "3.0.bias"], ["3.1.weight", "3.1.bias"]]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_layer_decay_equals_timms_own(name):
    pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    chosen = parsed("model=timm", f"model.name={name}", "method=mean_teacher", "optimizer.layer_decay=0.7")
    method = construct_method(chosen, channels=3, classes=10, images=20)
    scales = lr_scales(method, chosen.optimizer)
    groups = param_groups_layer_decay(method.student.network, weight_decay=0.1, layer_decay=0.7)
    theirs = {p: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    factory = build(parsed("optimizer.weight_decay=0.1").optimizer.node)
    optimizer = build_optimizer(factory, method, lr=1.0, decay_norm_and_bias=False, lr_scales=scales)
    rate = LearningRate(optimizer, 1.0, lambda step: 1 - step / 4, torch.device("cpu"))
    rate.set(torch.tensor(2.0))
    ours = {p: (g["lr"].item() * 2, g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(ours) == len(theirs) and all(ours[p] == pytest.approx(values) for p, values in theirs.items())


def test_the_head_and_what_a_method_adds_have_their_own_rate_and_the_teacher_none():
    chosen = parsed(
        "model=wrn_10_1", "method=mean_teacher_dual", "optimizer.layer_decay=0.5", "optimizer.head_lr_scale=3"
    )
    method = construct_method(chosen, channels=3, classes=10, images=20)
    scales = lr_scales(method, chosen.optimizer)
    added = [p for name, p in method.student.named_parameters() if name.startswith("second.")]
    assert added and {scales[p] for p in [*added, *method.student.network.classifier.parameters()]} == {3.0}
    assert {scales[p] for p in method.student.network.layer_parameters()[-2]} == {0.5}
    assert lr_scales(method, parsed().optimizer) == {}


def test_scaled_steps_are_those_of_separate_optimizers_also_after_loading():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    start = {name: value.clone() for name, value in module.state_dict().items()}
    scales = {parameter: 0.25 for parameter in module[0].parameters()}

    def make() -> torch.optim.Optimizer:
        factory = build(parsed("optimizer=adamw").optimizer.node)
        return build_optimizer(factory, module, lr=0.1, decay_norm_and_bias=True, lr_scales=scales)

    def take_steps(optimizer: torch.optim.Optimizer, steps: range) -> None:
        rate = LearningRate(optimizer, 0.1, lambda step: 1 / (1 + step), torch.device("cpu"))
        for step in steps:
            rate.set(torch.tensor(float(step)))
            module(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    first = make()
    take_steps(first, range(2))
    second = make()
    second.load_state_dict(first.state_dict())
    take_steps(second, range(2, 4))
    ours = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(start)
    pair = [torch.optim.AdamW(part.parameters(), lr=0.1, weight_decay=0.01) for part in module]
    for step in range(4):
        module(torch.ones(5, 3)).square().sum().backward()
        for optimizer, scale in zip(pair, (0.25, 1.0), strict=True):
            optimizer.param_groups[0]["lr"] = 0.1 * scale / (1 + step)
            optimizer.step()
            optimizer.zero_grad()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(ours[name], value)

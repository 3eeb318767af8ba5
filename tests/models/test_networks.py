"""The networks of conf/model: parameter counts of the literature, features and head, gradients, and special layers."""

import numpy as np
import pytest
import torch
from conftest import options, settings
from torch import nn

from meanteacher.config.errors import UserError
from meanteacher.methods import EMA
from meanteacher.models import Network
from meanteacher.models.batch_norm import MeanOnlyBatchNorm, freeze_running_stats, remaining_initial_stats
from meanteacher.models.shake_shake import shake
from meanteacher.optim.optimizers import build_optimizer
from meanteacher.runs.build import build

SMALL = {"shake_shake_26_2x96d": ["model.width=8"], "resnet18_cifar": ["model.width=8"], "wrn_28_8": ["model.width=1"]}


def network(name: str, *overrides: str, channels: int = 3) -> nn.Module:
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return build(settings(f"model={name}", *overrides)["model"], channels=channels, classes=10)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("wrn_37_2", 5_929_434), ("resnet18_cifar", 11_173_962), ("convnet13_bn", 3_121_802), ("torchvision", 11_181_642)],
)
def test_parameter_counts(name, parameters):
    assert count(network(name)) == parameters


def test_shake_shake_has_26_million_parameters():
    assert count(network("shake_shake_26_2x96d")) == pytest.approx(26.2e6, rel=0.002)


@pytest.mark.parametrize("name", options("model"))
def test_logits_come_from_the_feature_map_and_every_weight_gets_a_gradient(name):
    model = network(name, *SMALL.get(name, [])).train()
    images = torch.randn(4, 3, 32, 32)
    logits = model(images)
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    features = model.features(images)
    assert isinstance(model, Network) and features.shape[1] == model.feature_channels
    assert model.has_feature_map and model.pool(features).shape == (4, model.feature_channels)
    torch.testing.assert_close(model.head(features), model(images))


@pytest.mark.parametrize("name", ["convnet13", "convnet13_bn"])
def test_the_convnet_of_the_paper_ends_at_6_by_6_and_accepts_gray_images(name):
    model = network(name, channels=1)
    assert model.features(torch.randn(2, 1, 32, 32)).shape == (2, 128, 6, 6)


def test_weight_normalization_makes_the_scale_of_the_weights_irrelevant():
    model = network("convnet13").eval()
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    with torch.no_grad():
        model.convolutions[0].parametrizations.weight.original1.mul_(7)
    torch.testing.assert_close(model(images), before)


def test_mean_only_batch_norm_equals_its_formula():
    x, layer = torch.randn(6, 3, 4, 4), MeanOnlyBatchNorm(3, momentum=0.25)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    mean = x.numpy().astype(np.float64).mean((0, 2, 3))
    expected = x.numpy() - mean[:, None, None] + np.array([1, 2, 3])[:, None, None]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * mean, atol=1e-6)
    with freeze_running_stats(layer):
        layer(x + 5)
    layer.eval()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected + 0.75 * mean[:, None, None], atol=1e-5)


def test_shake_draws_independent_coefficients_for_the_forward_and_the_backward_pass():
    one, two = torch.full((500, 1, 1, 1), 3.0, requires_grad=True), torch.full((500, 1, 1, 1), 1.0, requires_grad=True)
    mixed = shake(one, two, True)
    alpha = (mixed.detach().flatten() - 1) / 2
    mixed.sum().backward()
    beta = one.grad.flatten()
    assert 0 <= alpha.min() < 0.05 and 0.95 < alpha.max() <= 1 and alpha.mean() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(beta + two.grad.flatten(), torch.ones(500))
    assert abs(np.corrcoef(alpha, beta)[0, 1]) < 0.15
    assert torch.equal(shake(one, two, False), torch.full_like(one, 2.0))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=timm", "model.name=resnet81"], "timm has no such network; did you mean resnet18"),
        (["model=timm", "model.image_size=32"], "model.image_size=32: resnet18 does not support this size"),
        (["model=torchvision", "model.name=resnt18"], "torchvision has no such classifier; did you mean resnet18"),
        (["model=torchvision", "model.name=googlenet"], "model.name=googlenet: this network cannot be split"),
        (["model=torchvision", "model.image_size=32"], "model.image_size=32: resnet18 does not support this size"),
        (["model=torchvision", "model.name=vit_b_16", "model.image_size=30"], "vit_b_16 does not support this size"),
        (["model=torchvision", "model.weights=nothing.pth"], "nothing.pth: cannot be read"),
        (["model=shake_shake_26_2x96d", "model.depth=27"], "6n \\+ 2"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(overrides, message):
    if "model=timm" in overrides:
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=message):
        build(settings(*overrides)["model"], channels=3, classes=10)


def test_only_weights_of_the_right_shape_are_loaded_from_a_file(tmp_path):
    kept = network("torchvision").network
    torch.save(kept.state_dict(), tmp_path / "kept.pth")
    node = settings("model=torchvision", f"model.weights={tmp_path / 'kept.pth'}")["model"]
    torch.manual_seed(1)
    other = build(node, channels=3, classes=7).network
    assert torch.equal(other.conv1.weight, kept.conv1.weight) and other.fc.weight.shape == (7, 512)
    torch.save({"a": torch.zeros(1)}, tmp_path / "kept.pth")
    with pytest.raises(UserError, match="does it belong to another network"):
        build(node, channels=3, classes=7)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 64),
        ("convnext_tiny", 32),
        ("densenet121", 32),
        ("efficientnet_b0", 32),
        ("mnasnet0_5", 32),
        ("mobilenet_v2", 32),
        ("mobilenet_v3_small", 32),
        ("regnet_x_400mf", 32),
        ("resnet18", 32),
        ("shufflenet_v2_x0_5", 32),
        ("swin_t", 32),
    ],
)
def test_features_and_head_of_torchvision_equal_its_own_forward_pass(name, size):
    model, images = network("torchvision", f"model.name={name}").eval(), torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = model.features(images)
        assert features.ndim == 4 and features.shape[1] == model.feature_channels and model.has_feature_map
        assert torch.equal(model.head(features), model.network(images))


def test_features_and_head_of_torchvisions_vision_transformer_equal_its_own_forward_pass():
    model = network("torchvision", "model.name=vit_b_32", "model.image_size=64").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.features(images)
        assert features.shape == (2, 5, 768) and model.feature_channels == 768 and not model.has_feature_map
        assert torch.equal(model.head(features), model.network(images))


def test_every_classifier_of_torchvision_belongs_to_a_family_that_is_tested_or_refused():
    from torchvision import models

    from meanteacher.models.library import INSEPARABLE

    tested = (
        "alexnet convnext densenet efficientnet mnasnet mobilenet regnet resnet resnext shufflenet swin vgg vit wide"
    )
    for name in models.list_models(module=models):
        assert name.startswith(tuple(tested.split())) != (name in INSEPARABLE), name


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("test_vit", 32, (2, 5, 64)),
        ("swin_tiny_patch4_window7_224", 64, (2, 2, 2, 768)),
        ("mobilenetv3_small_050", None, (2, 288, 2, 2)),
        ("test_convnext", None, (2, 64, 2, 2)),
    ],
)
def test_timm_keeps_the_contract_in_every_layout(name, size, shape):
    model = network("timm", f"model.name={name}", f"model.image_size={size or 'null'}").eval()
    images = torch.randn(2, 3, size or 64, size or 64)
    with torch.no_grad():
        features = model.features(images)
        assert features.shape == shape
        assert model.has_feature_map == (features.shape[1] == model.feature_channels and features.ndim == 4)
        assert model.pool(features).shape == (2, model.feature_channels)
        assert torch.equal(model(images), model.network(images))


def test_pool_averages_over_the_positions_of_every_layout():
    model, values = Network(), torch.randn(2, 5, 3, 4)
    model.feature_channels = 5
    expected = values.mean((2, 3))
    assert torch.equal(model.pool(values), expected)
    torch.testing.assert_close(model.pool(values.permute(0, 2, 3, 1)), expected)
    torch.testing.assert_close(model.pool(values.flatten(2).transpose(1, 2)), expected)
    assert torch.equal(model.pool(expected), expected)


def test_shake_shakes_convolutions_start_with_fan_out_variance():
    model = network("shake_shake_26_2x96d", *SMALL["shake_shake_26_2x96d"])
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    ("library", "name", "image_size"),
    [("timm", "test_resnet", None), ("timm", "test_vit", 32), ("torchvision", "mobilenet_v3_small", None)],
)
def test_a_probe_trains_the_last_layer_alone_on_features_in_evaluation_mode(library, name, image_size, tmp_path):
    chosen = [f"model.name={name}", f"model.image_size={image_size or 'null'}", f"model.weights={tmp_path / 'w.pth'}"]
    torch.save(network(library, *chosen[:2]).network.state_dict(), tmp_path / "w.pth")
    everything = network(library, *chosen).train()
    probe = network(library, *chosen, "model.train=probe").train()
    trained = {name for name, p in probe.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"weight", "bias"} and len(trained) == 2
    assert not any(module.training for module in probe.modules()) and everything.network.training
    assert all(p.requires_grad for p in everything.parameters())
    before = {name: value.clone() for name, value in probe.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    average = EMA(decay=0.5, warmup=False, bn="own").bind(probe)
    optimizer = build_optimizer(torch.optim.SGD, probe, lr=0.1, decay_norm_and_bias=True)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    probe(images).square().sum().backward()
    optimizer.step()
    average.update(probe, torch.tensor(0.0))
    for state in (probe.state_dict(), average.model.state_dict()):
        changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
        assert changed and changed <= trained
    with torch.no_grad():
        reference = everything.eval()(images)
    torch.testing.assert_close(network(library, *chosen, "model.train=probe").train()(images), reference)
    assert remaining_initial_stats(probe, 1) == 0


def test_a_probe_needs_weights():
    with pytest.raises(UserError, match="set model.weights=FILE"):
        network("torchvision", "model.train=probe")

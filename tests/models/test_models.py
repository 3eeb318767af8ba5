"""WideResNets: parameter counts of the literature, options, and the batch-norm variants."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from meanteacher.config.errors import UserError
from meanteacher.models import batch_norm
from meanteacher.models.wide_resnet import WideResNet

OPTIONS = {
    "stages": 3,
    "first_stride": 1,
    "first_blocks": "preactivated",
    "dropout": 0.0,
    "activation": "leaky_relu",
    "slope": 0.1,
    "bn_momentum": 0.001,
    "bn_epsilon": 0.001,
    "bn_shift": 0.0,
}


def build(depth=10, width=1, channels=3, **options):
    return WideResNet(depth=depth, width=width, channels=channels, classes=10, **(OPTIONS | options))


@pytest.mark.parametrize(
    ("depth", "width", "count"), [(28, 2, 1_467_610), (28, 3, 3_294_042), (16, 2, 691_674), (10, 1, 77_850)]
)
def test_parameter_counts(depth, width, count):
    assert sum(p.numel() for p in build(depth, width).parameters()) == count


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 16), (1, 28), (3, 96)])
def test_any_image_size_gives_logits(channels, size):
    assert build(channels=channels)(torch.rand(2, channels, size, size)).shape == (2, 10)


def test_an_impossible_depth_is_refused():
    with pytest.raises(UserError, match="a depth of 10, 16, 22, 28, 40"):
        build(depth=27)


def test_options_are_used():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 16)
    outputs = []
    for options in ({}, {"activation": "mish"}, {"slope": 0.5}, {"bn_shift": 0.1}):
        torch.manual_seed(1)
        outputs.append(build(**options)(images))
    assert all(not torch.allclose(outputs[0], other) for other in outputs[1:])
    net = build(dropout=0.5)
    assert not torch.equal(net(images), net(images))
    assert torch.equal(net.eval()(images), net(images))


def test_shifted_batch_norm_adds_a_constant():
    plain = batch_norm.batch_norm_constructor(momentum=0.1, eps=1e-3, shift=0.0)(3)
    shifted = batch_norm.batch_norm_constructor(momentum=0.1, eps=1e-3, shift=0.25)(3)
    images = torch.randn(5, 3, 4, 4)
    assert torch.allclose(shifted(images), plain(images) + 0.25)


def test_still_statistics_normalize_as_before_and_come_back_after_an_error():
    norm, images = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)
    with pytest.raises(ZeroDivisionError), batch_norm.freeze_running_stats(norm):
        assert torch.equal(norm(images), copy.deepcopy(norm).train()(images))
        assert not norm.running_mean.any() and norm.num_batches_tracked == 0
        norm.eval()
        assert torch.allclose(norm(images), images, atol=1e-4), "in evaluation mode by the running statistics"
        raise ZeroDivisionError
    assert norm.track_running_stats


def test_remaining_initial_stats_is_the_weight_of_the_slowest_layer():
    network = build(bn_momentum=0.001)
    assert batch_norm.remaining_initial_stats(network, 1500) == pytest.approx(0.999**1500)
    slower = nn.Sequential(network, nn.BatchNorm2d(3, momentum=0.0001))
    assert batch_norm.remaining_initial_stats(slower, 1500) == pytest.approx(0.9999**1500)


def test_remaining_initial_stats_equals_the_weight_after_real_updates():
    layer = nn.BatchNorm2d(1, momentum=0.2)
    layer.running_mean.fill_(1.0)
    for _ in range(7):
        layer(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
    assert layer.running_mean.item() == pytest.approx(batch_norm.remaining_initial_stats(layer, 7))


def test_remaining_initial_stats_is_zero_without_batch_norm_or_with_a_cumulative_average():
    assert batch_norm.remaining_initial_stats(nn.Linear(2, 2), 10) == 0.0
    assert batch_norm.remaining_initial_stats(nn.BatchNorm2d(2, momentum=None), 10) == 0.0


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 60, 300, 1500, 100_000])
def test_sufficient_momentum_suffices_and_the_next_smaller_one_does_not(steps, share):
    momentum = batch_norm.sufficient_momentum(steps, share)
    scale = 10.0 ** math.floor(math.log10(momentum * (1 + 1e-9)))
    digit = round(momentum / scale)
    assert 0 < momentum <= 1 and momentum == pytest.approx(digit * scale)
    assert (1 - momentum) ** steps <= share + 1e-9
    smaller = (digit - 1) * scale if digit > 1 else 0.9 * scale
    assert (1 - smaller) ** steps > share


def blog_wiring(state: dict, images: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The logits of the blog post's WRN-10-2 in training mode; `state` receives the new running statistics.

    Written from its description (README.md, section 3.2, of fakerlove1/2017-NIPS-MeanTeacher-Cifar10, commit 882876d):
    in the first block of stages 2 and 3 the output of the first batch norm is not used.
    """

    def normalized(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        unbiased = variance * x[:, 0].numel() / (x[:, 0].numel() - 1)
        state[f"{name}.running_mean"] = 0.999 * state[f"{name}.running_mean"] + 0.001 * mean.detach()
        state[f"{name}.running_var"] = 0.999 * state[f"{name}.running_var"] + 0.001 * unbiased.detach()
        scale = state[f"{name}.weight"] / (variance + epsilon).sqrt()
        y = x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]
        return torch.where(y > 0, y, 0.1 * y)

    x = functional.conv2d(images, state["stem.weight"], padding=1)
    for block, stride in ((0, 1), (1, 2), (2, 2)):
        name = f"blocks.{block}"
        if block == 0:
            x = normalized(x, f"{name}.enter.0")
        hidden = functional.conv2d(x, state[f"{name}.body.0.weight"], stride=stride, padding=1)
        hidden = functional.conv2d(normalized(hidden, f"{name}.body.1"), state[f"{name}.body.4.weight"], padding=1)
        x = functional.conv2d(x, state[f"{name}.shortcut.weight"], stride=stride) + hidden
    return normalized(x, "exit.0").mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]


def test_raw_first_blocks_equal_the_blogs_wiring_in_logits_gradients_and_statistics():
    torch.manual_seed(0)
    epsilon = 1e-5
    network = build(width=2, first_blocks="raw", bn_epsilon=epsilon).double()
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    weights = {name: state[name].requires_grad_() for name, _ in network.named_parameters()}
    images, target = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6)
    logits, expected = network(images), blog_wiring(state, images, epsilon)
    torch.testing.assert_close(logits, expected)
    for output in (logits, expected):
        functional.cross_entropy(output, target).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad)
    for name, buffer in network.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, state[name])


def test_preactivated_first_blocks_are_another_network():
    networks = []
    for first_blocks in ("preactivated", "raw"):
        torch.manual_seed(0)
        networks.append(build(width=2, first_blocks=first_blocks))
    preactivated, raw = networks
    missing, unexpected = raw.load_state_dict(preactivated.state_dict(), strict=False)
    assert not missing and {name.split(".")[1] for name in unexpected} == {"1", "2"}, "their batch norms are left out"
    images = torch.randn(4, 3, 8, 8)
    assert not torch.allclose(preactivated(images), raw(images), rtol=0.01)

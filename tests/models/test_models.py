"""WideResNets: parameter counts of the literature, options, and the batch-norm variants."""

import pytest
import torch

from meanteacher.config.errors import UserError
from meanteacher.models import batch_norm
from meanteacher.models.wide_resnet import WideResNet

OPTIONS = {
    "stages": 3,
    "first_stride": 1,
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
    plain = batch_norm.norm_layer(momentum=0.1, eps=1e-3, shift=0.0)(3)
    shifted = batch_norm.norm_layer(momentum=0.1, eps=1e-3, shift=0.25)(3)
    images = torch.randn(5, 3, 4, 4)
    assert torch.allclose(shifted(images), plain(images) + 0.25)


def test_remaining_initial_statistics():
    assert batch_norm.remaining_initial_stats(build(bn_momentum=0.001), 1500) == pytest.approx(0.999**1500)

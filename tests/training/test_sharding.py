"""A network whose batches are divided computes what it computes on whole batches: outputs, gradients, statistics."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from meanteacher.config.errors import UserError
from meanteacher.models.convnet13 import ConvNet13
from meanteacher.models.resnet import ResNet
from meanteacher.models.shake_shake import ShakeShake
from meanteacher.models.wide_resnet import WideResNet
from meanteacher.training.partition import Partition
from meanteacher.training.ranks import ALONE, Ranks
from meanteacher.training.sharding import choose_partition, sharded

pytest.importorskip("greenlet")
SHAPE = {"channels": 3, "classes": 4}
NORM = {"bn_momentum": 0.3, "bn_epsilon": 1e-5}


class Windows(nn.Module):
    """Four windows of each image are rows of their own, with batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.4), nn.Conv2d(6, 4, 3))

    def forward(self, images):
        windows = images.unflatten(2, (2, 8)).unflatten(4, (2, 8)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return self.layers(windows).mean((2, 3)).unflatten(0, (-1, 4)).mean(1)


class Custom(nn.Module):
    """Not a subclass of `Network`: no `features`, a batch norm without affine parameters, and random tensors."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, bias=False), nn.Linear(6, 4)
        self.norm, self.drop = nn.BatchNorm1d(6, affine=False), nn.Dropout2d(0.3)

    def forward(self, images):
        z = self.drop(self.one(images)).mean((2, 3))
        z = self.norm(z) + 0.1 * torch.rand_like(z) + 0.1 * torch.randn(len(z), 6, device=z.device)
        return self.two(z * torch.empty_like(z[:, :1]).bernoulli_(0.5)) - z.mean()


def wide_resnet(**values):
    shape = {"depth": 10, "width": 1, "stages": 3, "first_stride": 1, "first_blocks": "preactivated"}
    return WideResNet(**SHAPE, **shape, **NORM, activation="leaky_relu", slope=0.1, **values)


NETWORKS = {
    "wide_resnet": lambda: wide_resnet(dropout=0.2, bn_shift=0.0),
    "positively_shifted": lambda: wide_resnet(dropout=0.0, bn_shift=0.1),
    "convnet13": lambda: ConvNet13(**SHAPE, norm="mean_only", dropout=0.5, slope=0.1, **NORM),
    "resnet": lambda: ResNet(**SHAPE, blocks=1, width=4, **NORM),
    "shake_shake": lambda: ShakeShake(**SHAPE, depth=8, width=4, **NORM),
    "custom": Custom,
    "windows": Windows,
}


def compute(network, images, entry, partition):
    """Output, gradients of images and parameters, buffers and the next random number."""
    torch.manual_seed(1)
    images = images.clone().requires_grad_()
    with sharded([nn.ModuleList([network])], type(network), partition):
        output = getattr(network, entry)(images)
    weights = torch.linspace(0.5, 1.5, len(images)).view(-1, *[1] * (output.ndim - 2))
    (F.log_softmax(output, dim=1)[:, 0] * weights).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return [output.detach(), images.grad, *gradients, *network.buffers(), torch.rand(3)]


@pytest.mark.parametrize("entry", ["forward", "features"])
@pytest.mark.parametrize("name", NETWORKS)
def test_divided_batches_give_what_whole_ones_give(name, entry):
    if entry == "features" and name in ("custom", "windows"):
        return
    dtype, tolerance = (torch.float, 1e-4) if name == "convnet13" else (torch.double, 1e-9)  # it computes in float32
    network = NETWORKS[name]().to(dtype=dtype, memory_format=torch.channels_last).train()
    other, images = copy.deepcopy(network), torch.randn(7, 3, 16, 16, dtype=dtype)
    whole = compute(network, images, entry, None)
    divided = compute(other, images, entry, Partition(ALONE, 3, ordered=True))
    assert type(other) is type(network) and other.state_dict().keys() == network.state_dict().keys()
    assert len(whole) == len(divided)
    for one, two in zip(whole, divided, strict=True):
        torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)


def test_a_batch_of_fewer_images_than_pieces_is_not_divided():
    network, images = NETWORKS["wide_resnet"]().train(), torch.randn(2, 3, 16, 16)
    whole = compute(copy.deepcopy(network), images, "forward", None)
    divided = compute(network, images, "forward", Partition(ALONE, 3, ordered=True))
    assert all(torch.equal(one, two) for one, two in zip(whole, divided, strict=True))


def test_in_evaluation_mode_nothing_is_shared():
    network, images = NETWORKS["convnet13"]().eval(), torch.randn(7, 3, 16, 16)
    with torch.no_grad():
        whole = network(images)
        with sharded([network], type(network), Partition(ALONE, 3, ordered=True)):
            torch.testing.assert_close(network(images), whole)


def test_the_pieces_of_all_processes_are_the_batch():
    rows = torch.arange(11)
    partitions = [Partition(Ranks(rank, 2), 4, ordered=True) for rank in range(2)]
    pieces = [piece for partition in partitions for piece in partition.take(rows)]
    assert torch.equal(torch.cat(pieces), rows) and [len(piece) for piece in pieces] == partitions[0].sizes(11)


def test_elastic_runs_need_a_number_of_devices_that_divides_the_pieces():
    assert choose_partition(ALONE, "none") is None
    assert choose_partition(Ranks(1, 2), "bitwise").pieces == choose_partition(ALONE, "bitwise").pieces == 4
    with pytest.raises(UserError, match="not possible on 3 devices; use 1, 2 or 4"):
        choose_partition(Ranks(0, 3), "bitwise")

"""What a network computes over the images of a batch, computed over the whole batch while it processes a piece."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from meanteacher.training.partition import AddUp, BatchNorm, Partition, batch_statistics


class WholeBatch(TorchFunctionMode):
    """Within the context, a network processes a piece of a batch of `total` images.

    Batch normalization in training mode, means over the first dimension, dropout and PyTorch's random tensors are those
    of the whole batch. In a random tensor, the images are the first dimension that is as long as the piece, or the
    second if both are. Whatever else a network computes for an image must not depend on other images. place: the number
    of the piece among those of this process. together: called with a function and an argument, it returns this piece's
    item of function([the argument of each piece of this process]).
    """

    def __init__(self, partition: Partition, total: int, place: int, together: Callable[[Callable, Any], Any]):
        super().__init__()
        self.partition, self.total, self.together = partition, total, together
        bounds = partition.bounds(total)
        self.bounds = [bounds[piece] for piece in partition.own]
        self.size = self.bounds[place].stop - self.bounds[place].start

    def __torch_function__(self, function, types, args=(), kwargs=None):
        replaced = REPLACED.get(function)
        return replaced(self, function, *args, **(kwargs or {})) if replaced else function(*args, **(kwargs or {}))

    def draw(self, shape: torch.Size, make: Callable[[list[int]], Tensor]) -> Tensor:
        """This piece's part of a random tensor for the whole batch. shape: of the part; make: from the whole shape."""
        places = [place for place in range(min(2, len(shape))) if shape[place] == self.size]
        if not places:
            return self.together(lambda shapes: [make(list(shape))] * len(shapes), None)
        dimension = places[-1] if len(shape) > 2 and len(places) == 2 else places[0]
        whole = [*shape[:dimension], self.total, *shape[dimension + 1 :]]
        return self.together(lambda shapes: self.pieces_of(make(whole), dimension), None)

    def pieces_of(self, whole: Tensor, dimension: int) -> list[Tensor]:
        """The parts of the pieces. An image may have several rows, such as the windows of a transformer."""
        rows, bounds = whole.shape[dimension] // self.total, self.bounds
        return [whole.narrow(dimension, rows * b.start, rows * (b.stop - b.start)) for b in bounds]


def batch_norm(
    mode: WholeBatch,
    function: Callable,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`."""
    if not training:
        return function(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if weight is None:
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = x.new_ones(x.shape[1], dtype=dtype), x.new_zeros(x.shape[1], dtype=dtype)

    count = x.numel() // x.shape[1] // mode.size * mode.total

    def normalize(arguments: list[tuple]) -> tuple[Tensor, ...]:
        pieces, weights, biases, means, variances = zip(*arguments, strict=True)
        with torch.no_grad():
            mean, variance = batch_statistics(mode.partition, pieces, mode.total)
            if means[0] is not None:
                means[0].mul_(1 - momentum).add_(mean, alpha=momentum)
                variances[0].mul_(1 - momentum).add_(variance, alpha=momentum * count / max(count - 1, 1))
        return BatchNorm.apply(mode.partition, count, mean, variance, eps, *pieces, *weights, *biases)

    return mode.together(normalize, (x, weight, bias, running_mean, running_var))


def mean(mode: WholeBatch, function: Callable, x: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """`torch.mean` and `Tensor.mean`: over the whole batch if that is one of the dimensions."""
    dimensions = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    own = function(x, *([] if dim is None else [dim]), *args, **kwargs)
    if not any(dimension % max(x.ndim, 1) == 0 for dimension in dimensions):
        return own
    return mode.together(lambda pieces: AddUp.apply(mode.partition, *pieces), own * (mode.size / mode.total))


def dropout(
    mode: WholeBatch, function: Callable, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Dropout in PyTorch's variants: x times a random tensor, which dropout makes of ones."""
    if not training or p == 0:
        return x
    layout = torch.channels_last if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else None

    def make(shape: list[int]) -> Tensor:
        ones = torch.ones(shape, dtype=x.dtype, device=x.device)
        return function(ones.contiguous(memory_format=layout) if layout else ones, p, True, False)

    whole = [len(x) // mode.size * mode.total, *x.shape[1:]]
    return x * mode.together(lambda pieces: mode.pieces_of(make(whole), 0), None)


def random_factory(mode: WholeBatch, function: Callable, *size: Any, **kwargs: Any) -> Tensor:
    """`torch.rand` and `torch.randn`."""
    shape = torch.Size(size[0] if size and not isinstance(size[0], int) else size or kwargs.pop("size"))
    return mode.draw(shape, lambda whole: function(whole, **kwargs))


def random_like(mode: WholeBatch, function: Callable, like: Tensor, **kwargs: Any) -> Tensor:
    """`torch.rand_like` and `torch.randn_like`."""
    return mode.draw(like.shape, lambda whole: function(like.new_empty(whole), **kwargs))


def random_in_place(mode: WholeBatch, function: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.bernoulli_`, `Tensor.uniform_` and `Tensor.normal_`, with numbers as arguments."""
    return x.copy_(mode.draw(x.shape, lambda whole: function(x.new_empty(whole), *args, **kwargs)))


REPLACED: dict[Callable, Callable] = {
    F.batch_norm: batch_norm,
    **dict.fromkeys([torch.mean, Tensor.mean], mean),
    **dict.fromkeys([F.dropout, F.dropout1d, F.dropout2d, F.dropout3d], dropout),
    **dict.fromkeys([torch.rand, torch.randn], random_factory),
    **dict.fromkeys([torch.rand_like, torch.randn_like], random_like),
    **dict.fromkeys([Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_], random_in_place),
}
"""The functions that act on the whole batch, by the function of PyTorch that they replace."""

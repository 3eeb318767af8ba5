"""How a batch is divided among the processes of a run, and the operations that join the parts, with their gradients.

The gradients are those of a network that processes the whole batch. Each process computes the loss of the whole batch,
of which a piece receives the gradient of its own rows, and the gradients of the parameters are added up over all pieces
before anything else sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from meanteacher.training.ranks import Ranks


@dataclass(frozen=True)
class Partition:
    """A batch is divided into `pieces` consecutive pieces of nearly equal size. Each process has as many as the others.

    ordered: add up the gradients of the parameters in the order of the pieces, as all other sums always are. The bits
    then depend on the number of pieces, but not on the number of processes.
    """

    ranks: Ranks
    pieces: int
    ordered: bool

    @property
    def own(self) -> range:
        """The numbers of the pieces of this process."""
        count = self.pieces // self.ranks.count
        return range(self.ranks.rank * count, (self.ranks.rank + 1) * count)

    def bounds(self, total: int) -> list[slice]:
        """The slice of each piece in a batch of `total` images."""
        ends = [total * piece // self.pieces for piece in range(self.pieces + 1)]
        return [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]

    def sizes(self, total: int) -> list[int]:
        """The number of images of each piece."""
        return [piece.stop - piece.start for piece in self.bounds(total)]

    def take(self, whole: Tensor) -> tuple[Tensor, ...]:
        """The pieces of this process of a tensor with a row for each image."""
        bounds = self.bounds(len(whole))
        return tuple(whole[bounds[piece]] for piece in self.own)

    def exchange(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors of all pieces, from those of this process's pieces, which have one shape S: [pieces, *S]."""
        return self.ranks.gather(torch.stack(tuple(tensors))).flatten(0, 1)

    def join(self, pieces: Sequence[Tensor], total: int) -> Tensor:
        """A tensor with a row for each image of the batch, from the rows of this process's pieces.

        Feature maps keep the memory format of the pieces.
        """
        if pieces[0].ndim == 4 and pieces[0].is_contiguous(memory_format=torch.channels_last):
            return self.join([piece.permute(0, 2, 3, 1) for piece in pieces], total).permute(0, 3, 1, 2)
        sizes = self.sizes(total)
        largest = max(sizes)
        padded = [torch.cat([piece, piece.new_zeros(largest - len(piece), *piece.shape[1:])]) for piece in pieces]
        rows = self.exchange(padded if min(sizes) < largest else pieces)
        if min(sizes) == largest:
            return rows.flatten(0, 1)
        return torch.cat([piece[:size] for piece, size in zip(rows, sizes, strict=True)])


class TakePieces(Function):
    """The pieces of this process; their gradients are joined."""

    @staticmethod
    def forward(ctx, partition: Partition, whole: Tensor) -> tuple[Tensor, ...]:
        ctx.partition, ctx.total = partition, len(whole)
        return tuple(piece.clone() for piece in partition.take(whole))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.partition.join(gradients, ctx.total)


class JoinPieces(Function):
    """The whole batch of outputs. Of its gradient, the same on all processes, each piece takes its own rows."""

    @staticmethod
    def forward(ctx, partition: Partition, total: int, *pieces: Tensor) -> Tensor:
        ctx.partition = partition
        return partition.join(pieces, total)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        return None, None, *ctx.partition.take(gradient)


class ShareParameters(Function):
    """The parameters, once for each piece of this process. Their gradients are added up over all pieces at once."""

    @staticmethod
    def forward(ctx, partition: Partition, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.partition, ctx.layouts = partition, [(p.shape, p.stride(), p.numel()) for p in parameters]
        ctx.set_materialize_grads(False)
        return tuple(parameter.view_as(parameter) for _ in partition.own for parameter in parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor | None) -> tuple:
        partition, count = ctx.partition, len(ctx.layouts)
        by_piece = [gradients[start : start + count] for start in range(0, len(gradients), count)]
        used = [number for number in range(count) if by_piece[0][number] is not None]
        flat = torch.stack([flatten([piece[n] for n in used], [ctx.layouts[n] for n in used]) for piece in by_piece])
        if not partition.ordered:
            total = flat[0]
            partition.ranks.add_up(total)
        else:
            total = partition.exchange(flat).sum(dim=0)
        sums = unflatten(total, [ctx.layouts[n] for n in used])
        result: list[Tensor | None] = [None] * count
        for number, gradient in zip(used, sums, strict=True):
            result[number] = gradient
        return None, *result


Layout = tuple[torch.Size, tuple[int, ...], int]
"""Shape, strides and number of elements."""


def unflatten(flat: Tensor, layouts: list[Layout]) -> list[Tensor]:
    """Views of a flat tensor, in these layouts."""
    parts = flat.split([count for _, _, count in layouts])
    return [part.as_strided(shape, stride) for part, (shape, stride, _) in zip(parts, layouts, strict=True)]


def flatten(tensors: list[Tensor], layouts: list[Layout]) -> Tensor:
    """The tensors one after another in a flat tensor, each in its layout."""
    flat = tensors[0].new_empty(sum(count for _, _, count in layouts))
    torch._foreach_copy_(unflatten(flat, layouts), tensors)
    return flat


class AddUp(Function):
    """The sum over all pieces of the batch, once for each piece of this process. Its gradients are added up too."""

    @staticmethod
    def forward(ctx, partition: Partition, *pieces: Tensor) -> tuple[Tensor, ...]:
        ctx.partition = partition
        total = partition.exchange(pieces).sum(dim=0)
        return tuple(total.clone() for _ in pieces)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple:
        total = ctx.partition.exchange(gradients).sum(dim=0)
        return None, *[total] * len(gradients)


def batch_statistics(partition: Partition, pieces: Sequence[Tensor], total: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over a batch of `total` images and all positions: [C] each, float32 or float64.

    pieces: of this process, [B, C, …] each.
    """
    channels, dtype, own = pieces[0].shape[1], torch.promote_types(pieces[0].dtype, torch.float32), []
    for piece in pieces:
        running = piece.new_zeros(channels, dtype=dtype), piece.new_ones(channels, dtype=dtype)
        own.append(torch.stack(torch.batch_norm_update_stats(piece, *running, 1.0)))
    means, variances = partition.exchange(own).unbind(dim=1)
    shares = means.new_tensor([[size / total] for size in partition.sizes(total)])
    mean = (shares * means).sum(dim=0)
    return mean, (shares * (variances + (means - mean).square())).sum(dim=0)


class BatchNorm(Function):
    """Batch normalization by the statistics of the whole batch, of each piece of this process."""

    @staticmethod
    def forward(ctx, partition: Partition, elements: int, mean: Tensor, variance: Tensor, epsilon: float, *tensors):
        """elements: per channel of the whole batch. tensors: the pieces, a weight [C] for each, a bias [C] for each."""
        count = len(partition.own)
        pieces, weights, biases = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        ctx.partition, ctx.epsilon, ctx.elements = partition, epsilon, elements
        ctx.save_for_backward(mean, variance, *pieces, *weights)
        return tuple(
            F.batch_norm(piece, mean, variance, weight, bias, False, 0.0, epsilon)
            for piece, weight, bias in zip(pieces, weights, biases, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple:
        """With fixed statistics, the gradients of weight and bias are the sums that the mean and variance need."""
        mean, variance, *tensors = ctx.saved_tensors
        pieces, weights = tensors[: len(gradients)], tensors[len(gradients) :]
        fixed = [
            torch.ops.aten.native_batch_norm_backward(
                gradient, piece, weight, mean, variance, None, None, False, ctx.epsilon, [True, True, True]
            )
            for gradient, piece, weight in zip(gradients, pieces, weights, strict=True)
        ]
        by_weight, by_bias = ctx.partition.exchange([torch.stack(sums) for _, *sums in fixed]).sum(dim=0) / ctx.elements
        scale = (variance + ctx.epsilon).rsqrt()
        for (gradient, *_), piece, weight in zip(fixed, pieces, weights, strict=True):
            factors = weight * scale * by_weight, weight * scale * by_bias
            gradient.sub_(F.batch_norm(piece, mean, variance, *factors, False, 0.0, ctx.epsilon))
        by_input, by_weight, by_bias = zip(*fixed, strict=True)
        return None, None, None, None, None, *by_input, *by_weight, *by_bias

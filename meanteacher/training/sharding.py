"""Networks that divide the images of a forward pass among the processes of a run, unnoticed by the methods."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meanteacher.config.errors import UserError
from meanteacher.training.partition import JoinPieces, Partition, ShareParameters, TakePieces
from meanteacher.training.ranks import Ranks
from meanteacher.training.whole_batch import WholeBatch

ELASTIC_PIECES = 4
"""The number of pieces with `elastic=bitwise`, on every number of devices that divides it."""


def choose_partition(ranks: Ranks, elastic: str) -> Partition | None:
    """How the batches of a run are divided; None for a single process with `elastic=none`.

    Raises UserError if `elastic=bitwise` is not possible with this number of processes.
    """
    if elastic == "none":
        return Partition(ranks, ranks.count, ordered=False) if ranks.together else None
    if ELASTIC_PIECES % ranks.count:
        raise UserError(f"trainer.elastic=bitwise: not possible on {ranks.count} devices; use 1, 2 or {ELASTIC_PIECES}")
    if find_spec("greenlet") is None:
        raise UserError("trainer.elastic=bitwise needs the package greenlet: pip install -e '.[elastic]'")
    return Partition(ranks, ELASTIC_PIECES, ordered=True)


class ShardedNetwork(nn.Module):
    """Base of a network whose `forward` and `features` take and return the whole batch and process a part of it.

    The outputs, the gradients of images and parameters, and the running statistics are those of the whole batch, on all
    processes. A batch of fewer images than pieces is processed whole by each process.
    """

    partition: Partition

    inside = False
    """Whether the network is processing a piece."""

    def forward(self, images: Tensor, entry: str = "forward") -> Tensor:
        return self.run(entry, getattr(super(), entry), images)

    def features(self, images: Tensor) -> Tensor:
        return self.run("features", super().features, images)

    def run(self, entry: str, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """function(images), where `function` is the method `entry` of the network itself."""
        partition, total = self.partition, len(images)
        if self.inside or total < partition.pieces:
            return function(images)
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad and torch.is_grad_enabled()}
        divided = images.requires_grad and torch.is_grad_enabled()
        pieces = TakePieces.apply(partition, images) if divided else partition.take(images)
        shared = ShareParameters.apply(partition, *trained.values()) if trained else ()
        count = len(trained)
        parameters = [dict(zip(trained, shared[n * count :], strict=False)) for n in range(len(pieces))]
        self.inside = True
        try:
            outputs = run_pieces(self, entry, pieces, parameters, total)
        finally:
            self.inside = False
        return JoinPieces.apply(partition, total, *outputs)


def run_pieces(
    network: ShardedNetwork,
    entry: str,
    pieces: tuple[Tensor, ...],
    parameters: list[dict[str, Tensor]],
    total: int,
) -> list[Tensor]:
    """The outputs for the pieces of this process, each by its own parameters."""

    def run_piece(place: int, module: nn.Module, together: Callable[[Callable, Any], Any]) -> Tensor:
        with WholeBatch(network.partition, total, place, together):
            return functional_call(module, parameters[place], (pieces[place], entry))

    if len(pieces) == 1:
        return [run_piece(0, network, lambda function, argument: function([argument])[0])]
    from greenlet import getcurrent, greenlet

    def together(function: Callable[[list], list], argument: Any) -> Any:
        return getcurrent().parent.switch((function, argument))

    modules = [network, *(replica(network) for _ in pieces[1:])]
    runs = [greenlet(run_piece) for _ in modules]
    states = [run.switch(place, modules[place], together) for place, run in enumerate(runs)]
    while not runs[0].dead:  # all of them wait at the same call of `together`
        (function, *_), *_ = states
        results = function([argument for _, argument in states])
        states = [run.switch(result) for run, result in zip(runs, results, strict=True)]
    return states


def replica(network: nn.Module) -> nn.Module:
    """A copy with the same parameters and with buffers of its own."""
    return copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})


@cache
def sharded_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The network class `kind`, sharded. The state has the same names."""
    bases = {} if hasattr(kind, "features") else {"features": None}
    return type(f"Sharded{kind.__name__}", (ShardedNetwork, kind), bases)


def outermost(modules: Iterable[nn.Module], kind: type[nn.Module]) -> Iterator[nn.Module]:
    """The modules of type `kind`, each once, except those inside of others."""
    for module in modules:
        if type(module) is kind:
            yield module
        else:
            yield from outermost(module.children(), kind)


@contextmanager
def sharded(roots: Iterable[nn.Module], kind: type[nn.Module], partition: Partition | None) -> Iterator[None]:
    """Within the context, the networks of type `kind` in `roots` are sharded; without a partition, nothing changes."""
    networks = list(dict.fromkeys(outermost(roots, kind))) if partition is not None else []
    for network in networks:
        network.__class__, network.partition = sharded_class(kind), partition
    try:
        yield
    finally:
        for network in networks:
            network.__class__ = kind
            del network.partition
            network.__dict__.pop("inside", None)

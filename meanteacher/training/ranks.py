"""The processes of one run: each trains on a device of its own, and all of them take the same steps."""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from meanteacher.config.errors import LostProcess

TIMEOUT = datetime.timedelta(hours=12)
"""The longest wait for another process. Decoding a large data set takes hours, and a lost process is noticed sooner."""

LOST = "another process of this run has ended; rerun the command to resume"


@dataclass(frozen=True)
class Ranks:
    """The number of this process, its rank, among the `count` processes of the run, and among those of this machine.

    Every process calls the same methods in the same order; each waits for the others.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there are other processes."""
        return self.count > 1

    @classmethod
    def from_environment(cls) -> Self:
        """What torchrun has set for this process, or a single process without torchrun."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names)) if all(name in os.environ for name in names) else cls()

    @contextmanager
    def connected(self, method: str | None = None) -> Iterator[Self]:
        """Within the context, the processes are connected: over gloo for tensors on a CPU, over NCCL on a GPU.

        method: as `init_method` of `torch.distributed`; None for the address that torchrun has set. Errors of the
        connection become LostProcess.
        """
        if not self.together:
            yield self
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, method, TIMEOUT, world_size=self.count, rank=self.rank)
        with self.detect_lost_process():
            yield self
            self.barrier()
        dist.destroy_process_group()  # after an error, the end of the process closes the connection, and sooner

    @contextmanager
    def detect_lost_process(self) -> Iterator[None]:
        """Within the context, errors of the connection are raised as LostProcess."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise LostProcess(LOST) from None
            raise

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        self.broadcast(None)
        self.largest(0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Within the context, the main process goes first, and the others start when it has left."""
        if self.together and not self.main:
            self.barrier()
        yield
        if self.together and self.main:
            self.barrier()

    def broadcast(self, value: Any) -> Any:
        """The main process's `value`, in every process. It consists of builtins."""
        values = [value]
        if self.together:
            dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]

    def largest(self, *values: int) -> list[int]:
        """The element-wise maximum of the values of all processes, computed without waiting for a GPU."""
        if not self.together:
            return list(values)
        largest = torch.tensor(values)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape S, in the order of the ranks: [count, *S]."""
        if not self.together:
            return tensor[None]
        tensor = tensor.contiguous()
        gathered = tensor.new_empty(self.count, *tensor.shape)
        dist.all_gather(list(gathered.unbind()), tensor)
        return gathered

    def add_up(self, tensor: Tensor) -> None:
        """Replace the tensor by the sum over all processes."""
        dist.all_reduce(tensor)


ALONE = Ranks()

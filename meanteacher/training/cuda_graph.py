"""A function of tensors as one CUDA graph: its hundreds of kernels are launched by one call."""

import logging
from collections.abc import Callable

import torch
from torch import Generator, Tensor

log = logging.getLogger(__name__)

WARMUP = 3
"""Calls before the capture, in which libraries choose their kernels and the function allocates what it keeps."""


class CUDAGraphStep:
    """`function(*tensors)`, run as it is in the first calls, then captured once and replayed with new values.

    The function returns nothing, synchronises nothing, and leaves its results in tensors that it keeps. Each call has tensors of
    the same shapes. generators: what it draws from, beside the default one; they are seeded before each call, and a replay draws
    what the function itself would. A capture that fails is said, and the function is then run as it is.
    """

    def __init__(self, function: Callable[..., None], generators: list[Generator]):
        self.function, self.generators = function, generators
        self.stream = torch.cuda.Stream()
        self.calls, self.graph, self.inputs = 0, None, None

    def __call__(self, *tensors: Tensor) -> None:
        self.calls += 1
        if self.calls == WARMUP + 1:
            self.graph = self.capture(tensors)
        if self.graph is None:
            self.run(tensors)
            return
        for mine, given in zip(self.inputs, tensors, strict=True):
            mine.copy_(given)
        self.graph.replay()

    def run(self, tensors: tuple[Tensor, ...]) -> None:
        """On the capture's stream, so that autograd's nodes belong to it from the beginning."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.function(*tensors)
        torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, tensors: tuple[Tensor, ...]) -> "torch.cuda.CUDAGraph | None":
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        self.inputs = [tensor.clone() for tensor in tensors]
        try:
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.function(*self.inputs)
        except RuntimeError as error:
            log.warning("slower: the step cannot be captured as a CUDA graph (%s)", str(error).splitlines()[0])
            return None
        log.info("graph   the step is captured as one CUDA graph")
        return graph

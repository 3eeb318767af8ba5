"""A function of tensors as one CUDA graph: a single call launches its hundreds of kernels."""

import logging
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from meanteacher.config.errors import first_line

log = logging.getLogger(__name__)

EAGER_CALLS = 3
"""Eager calls before the capture, in which libraries choose their kernels and the function allocates its tensors."""


class CUDAGraphStep:
    """Runs `function(*tensors)` eagerly in the first calls, then captures it once and replays the graph with new
    values.

    The function returns nothing, does not synchronize, and writes its results to tensors that it keeps. The tensors
    have the same shapes in every call. generators: the random generators that the function uses besides the default
    one. They are seeded before each call, and a replay draws the same numbers as an eager call.
    On capture failure, warn and fall back to eager execution. undo: discards what a call that did not come to its end
    has left behind, such as gradients.
    """

    def __init__(self, function: Callable[..., None], generators: list[Generator], undo: Callable[[], None]):
        self.function, self.generators, self.undo = function, generators, undo
        self.stream = torch.cuda.Stream()
        self.calls, self.graph, self.inputs = 0, None, None

    def __call__(self, *tensors: Tensor) -> None:
        self.calls += 1
        if self.calls == EAGER_CALLS + 1:
            self.graph = self.capture(tensors)
        if self.graph is None:
            self.run_eagerly(tensors)
            return
        for graph_input, tensor in zip(self.inputs, tensors, strict=True):
            graph_input.copy_(tensor)
        self.graph.replay()

    def run_eagerly(self, tensors: tuple[Tensor, ...]) -> None:
        """Run the function on the stream of the capture, so that autograd's nodes belong to it from the start."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.function(*tensors)
        torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, tensors: tuple[Tensor, ...]) -> "torch.cuda.CUDAGraph | None":
        """Capture the function on copies of the tensors, which become the inputs of the graph. None if that fails."""
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        self.inputs = [tensor.clone() for tensor in tensors]
        current = torch.cuda.current_stream()
        try:
            with (
                torch.cuda.stream(current),  # if the capture fails, the context of the graph leaves its own stream set
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self.function(*self.inputs)
        except RuntimeError as error:
            self.recover()
            reason = first_line(error)
            log.warning("the step cannot be captured as a CUDA graph and runs eagerly, which is slower (%s)", reason)
            return None
        log.info("graph   the step is captured as one CUDA graph")
        return graph

    def recover(self) -> None:
        """Make eager calls possible after a failed capture.

        A generator that took part in it counts as capturing forever and refuses to draw, so it gets a fresh state.
        """
        for generator in (torch.cuda.default_generators[torch.cuda.current_device()], *self.generators):
            fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed())
            generator.graphsafe_set_state(fresh)
        self.undo()

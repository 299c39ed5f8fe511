"""Work for a GPU as one unit: its kernels are captured once and replayed (CUDA graphs).

A step of our small networks is thousands of short kernels. Launched one by one from Python they leave a large
GPU idle for most of the time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARMUP = 3
"""Calls that run as they are, while libraries choose their kernels and buffers find their addresses."""

Tensors = dict[str, Tensor]


class CudaGraph:
    """Calls `work`; on a GPU the first few times only, and replays what it did from then on.

    Args:
        work: takes tensors by name and returns such. It may neither wait for the GPU nor draw random numbers
            on the host, and whatever changes between calls must be in its arguments or in tensors that keep
            their addresses.
    """

    def __init__(self, work: Callable[[Tensors], Tensors]) -> None:
        self.work = work
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Tensors = {}
        self._outputs: Tensors = {}

    def __call__(self, inputs: Tensors) -> Tensors:
        """What `work(inputs)` returns; the next call overwrites it.

        Args:
            inputs: tensors on the GPU, of the same names and shapes in every call.
        """
        self._calls += 1
        if self._calls <= _WARMUP:
            return self._on_side_stream(inputs)
        if self._graph is None:
            self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
            self._graph = torch.cuda.CUDAGraph()
            # Loaders' threads go on using the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._outputs = self.work(self._inputs)
        for name, tensor in inputs.items():
            self._inputs[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _on_side_stream(self, inputs: Tensors) -> Tensors:
        """As a capture does: gradients come from where they will be computed."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.work(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

"""State kept beside the layers: a network of causal layers on blocks gives what it gives on the whole.

Every causal layer needs the last few frames of its own input. In training they are zeros; in streaming
they come from a `History`, which the caller owns, one for a stream. Layers stay free of state, so one
network serves many streams (the idea of kyutai moshi's `modules/streaming.py`, as a plain dictionary).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class History:
    """Past inputs of the causal layers of one stream (or of one batch of streams)."""

    def __init__(self) -> None:
        self._past: dict[nn.Module, Tensor] = {}

    def extend(self, layer: nn.Module, x: Tensor, length: int) -> Tensor:
        """Put the last `length` frames that `layer` saw before x (B, T, ...) and remember x's own.

        Returns (B, length + T, ...); zeros stand for what was before the beginning.
        """
        past = self._past.get(layer)
        if past is None:
            past = x.new_zeros(x.shape[0], length, *x.shape[2:])
        joined = torch.cat([past, x], dim=1)
        self._past[layer] = joined[:, joined.shape[1] - length :]
        return joined

    def copy(self) -> History:
        """Another one that goes on from here by itself."""
        other = History()
        other._past = dict(self._past)
        return other

    def state(self, network: nn.Module) -> dict[str, Tensor]:
        """The past inputs by the names of the layers in `network`."""
        return {name: self._past[layer] for name, layer in network.named_modules() if layer in self._past}

    def set_state(self, network: nn.Module, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        layers = dict(network.named_modules())
        self._past = {layers[name]: past for name, past in state.items()}

    def reset(self, stream: int | None = None) -> None:
        """Forget everything, or one stream of a batch: the next block is the beginning of a stream."""
        if stream is None:
            self._past.clear()
            return
        for past in self._past.values():
            past[stream] = 0


def extend(layer: nn.Module, x: Tensor, length: int, history: History | None) -> Tensor:
    """`History.extend`, or zeros in front of x when there is no history (training)."""
    if history is None:
        return torch.cat([x.new_zeros(len(x), length, *x.shape[2:]), x], 1)
    return history.extend(layer, x, length)

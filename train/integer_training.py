"""Float networks that turn into integer ones: the training side of `fsqcodec.entropy.integer`.

Until `quantize` is called they are ordinary networks with activations clipped to [0, 1]; from then on every
weight is a multiple of a power of two and every activation of 1/128, with straight-through gradients (Jacob
et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fsqcodec.entropy.integer import ACTIVATION, ACTIVATION_BITS
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

_FINEST = 10
"""Largest scale: 2^-10 is finer than any logit needs, and leaves room below 2^24."""


class QuantizedNetwork(nn.Module):
    """Base of the priors' networks.

    Args:
        shared: for every scale, the names of the parameters that have it in common.
        wide: parameters that are exported as int16; the others become int8.
    """

    def __init__(self, shared: Mapping[str, Sequence[str]], wide: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._shared, self._wide = shared, wide
        self._scale_of = {name: scale for scale, names in shared.items() for name in names}
        self.scales: dict[str, int] = {}
        """Set by `quantize`: weights are multiples of 2^-scale from then on, and activations of 2^-7."""

    def quantize(self) -> None:
        """From now on compute as the exported integers will."""
        for scale, names in self._shared.items():
            room = [
                self._most(name) / max(float(self.get_parameter(name).detach().abs().max()), 1e-6)
                for name in names
                if self.get_parameter(name).numel()
            ]
            self.scales[scale] = min(_FINEST, math.floor(math.log2(min(room))))

    def weight(self, name: str) -> Tensor:
        """A parameter as the network uses it."""
        weight = self.get_parameter(name)
        if not self.scales:
            return weight
        return weight + (self.rounded(name) / 2.0 ** self.scales[self._scale_of[name]] - weight).detach()

    def rounded(self, name: str) -> Tensor:
        """The integers of a parameter, in floats."""
        most, weight = self._most(name), self.get_parameter(name).detach().float()
        return torch.round(weight * 2.0 ** self.scales[self._scale_of[name]]).clamp(-most, most)

    def units(self, sums: Tensor) -> Tensor:
        """Activations of sums."""
        one = 1 << ACTIVATION_BITS
        # Of the same use as `clamp`, with a backward pass of its own: a fifth of the time.
        units = F.hardtanh(sums, 0.0, ACTIVATION / one if self.scales else 1.0)
        if not self.scales:
            return units
        return units + (torch.floor(units * one) / one - units).detach()

    def points(self, scales: Mapping[str, int]) -> dict[str, int]:
        """Binary point of every exported tensor: its real numbers are the integers over 2 to that power."""
        raise NotImplementedError

    @torch.no_grad()
    def _restore(self, integers: Mapping[str, NDArray[Any]], scales: Mapping[str, int]) -> None:
        """Take over the real numbers that exported integers stand for; the opposite of `export`.

        Raises:
            ValueError: shapes differ.
        """
        for name, point in self.points(scales).items():
            own, given = self.get_parameter(name), torch.from_numpy(integers[name].astype("f4"))
            if own.shape != given.shape:
                raise ValueError(f"prior: {name} is {tuple(given.shape)} where {tuple(own.shape)} is needed")
            own.copy_(given / 2.0**point)

    def _most(self, name: str) -> int:
        return torch.iinfo(torch.int16 if name in self._wide else torch.int8).max

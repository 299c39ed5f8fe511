"""How many stages live packets may have, to take a bitrate on average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..audio.prior import REACH
from ..entropy.base import EntropyModel

_MEMORY = 2.0
"""Seconds over which what packets take is averaged."""
_SETTLING = 4.0
"""Seconds in which what was taken too much, or too little, is made good."""
_MOST = 1.0
"""Seconds of the bitrate that may be saved up in pauses, or borrowed."""
_FULL = 10.0
"""Kilobits a second that all stages are taken for before anything is known."""
_CALM = 1.0
"""Seconds from one change to the next, at least."""
_STEP = 3
"""Stages that are added at once, at most: what begins in silence looks cheap."""


class RateControl:
    """Watches what every number of stages would have taken, and says how many fit.

    Packets of a pause take little, of an onset much: the number follows their average slowly, so that quality
    does not flutter.

    Args:
        kbps: kilobits a second, headers included.
        seconds: of a packet.
        most: stages at most.
    """

    def __init__(self, kbps: float, seconds: float, most: int) -> None:
        self._seconds, self._budget = seconds, kbps * 1000 / 8 * seconds
        self._weight = min(1.0, seconds / _MEMORY)
        self._mean_bytes = np.zeros(0)
        """Of a packet with 1, 2 … stages."""
        self._saved, self._since_change = 0.0, 0.0
        self._context: NDArray[np.integer] = np.zeros((0, most), np.int64)
        self.stages = min(most, 1 + int(most * kbps / _FULL))
        """Of the next packet."""

    def update(self, coder: EntropyModel, tokens: NDArray[np.integer], independent: bool, size: int) -> None:
        """After a packet of `size` bytes, of whose tokens (frames, most) the first `stages` were sent."""
        seen = tokens if independent else np.concatenate([self._context, tokens])
        bits = coder.bits(seen)[-len(tokens) :].sum(0)
        self._context = seen[-REACH:]
        spent = np.cumsum(bits)
        would = (spent - spent[self.stages - 1]) / 8 + size
        weight = self._weight if len(self._mean_bytes) else 1.0
        self._mean_bytes = would if weight == 1.0 else self._mean_bytes + weight * (would - self._mean_bytes)
        bound = self._budget * _MOST / self._seconds
        self._saved = float(np.clip(self._saved + self._budget - size, -bound, bound))
        self._since_change += self._seconds
        if self._since_change >= _CALM:
            allowed = self._budget + self._saved * self._seconds / _SETTLING
            fitting = max(1, int(np.searchsorted(self._mean_bytes, allowed, side="right")))
            fitting = min(fitting, self.stages + _STEP)
            if fitting != self.stages:
                self.stages, self._since_change = fitting, 0.0

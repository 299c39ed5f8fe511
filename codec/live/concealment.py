"""What is heard in place of lost packets: the latent frames before them, backwards and ever softer.

So a lost packet is a fade and not a hole. Speech played backwards for a moment is more like speech than a
moment that stands still, and the networks remember nothing unlikely when the next packet comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 10
"""Latent frames of a gap that are concealed, 0.2 s, from as many that came; silence follows."""
_WHOLE, _FADE = 2, 0.75
"""Latent frames at full loudness, and the factor from each of the later ones to the next."""


class ConcealedFrames(NamedTuple):
    """Latent frames in place of lost ones."""

    tokens: NDArray[np.int64]
    """(frames, stages of the model)."""
    stages: NDArray[np.int64]
    """How many stages of each count, (frames,); 0 for silence."""
    gains: NDArray[np.float32]
    """Loudness of each, (frames,), 0 … 1."""


@dataclass
class Concealment:
    """What one stream can conceal its next gap with."""

    stages: int
    """Of the model."""
    tokens: NDArray[np.int64] = field(init=False)
    """Tokens (n, stages) of the last frames that came, the latest first, n ≤ `LONGEST`."""
    kept: NDArray[np.int64] = field(init=False)
    """How many stages each of them has, (n,)."""
    concealed: int = 0
    """Latent frames that were concealed since."""

    def __post_init__(self) -> None:
        self.tokens, self.kept = np.zeros((0, self.stages), np.int64), np.zeros(0, np.int64)

    def receive(self, tokens: NDArray[np.integer]) -> None:
        """Remember tokens (frames, n ≤ stages) that came: a gap is over."""
        latest = np.zeros((len(tokens), self.stages), np.int64)
        latest[:, : tokens.shape[1]] = tokens[::-1]
        self.tokens = np.concatenate([latest, self.tokens])[:LONGEST]
        self.kept = np.concatenate([np.full(len(tokens), tokens.shape[1]), self.kept])[:LONGEST]
        self.concealed = 0

    def conceal(self, frames: int) -> ConcealedFrames:
        """The next so many latent frames of a gap."""
        after = self.concealed + np.arange(frames)
        self.concealed += frames
        found = after < len(self.tokens)
        tokens, stages = np.zeros((frames, self.stages), np.int64), np.zeros(frames, np.int64)
        tokens[found], stages[found] = self.tokens[after[found]], self.kept[after[found]]
        gains = np.where(found, np.float32(_FADE) ** np.maximum(after - _WHOLE, 0), 0)
        return ConcealedFrames(tokens, stages, gains.astype(np.float32))

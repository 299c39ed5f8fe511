"""Random crops of prepared music (`fsqcodec.train.music.prepare`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fsqcodec.music.bands import BANDS, CODED, EDGES
from torch import Tensor

from .prepare import SCALE


@dataclass
class Crop:
    """A batch."""

    coefficients: Tensor
    """Of mid and side, float32 (B, frames, 2, 800)."""
    types: Tensor
    """Block types, int64 (B, frames)."""
    audible: Tensor
    """Weights of bands, (B, 27): low above the band of the source."""


class Crops:
    """Draws batches; what is drawn depends on the seed and the step alone."""

    def __init__(self, folders: list[Path], seed: int) -> None:
        self.coefficients, self.types, bands, weights = [], [], [], []
        for folder in folders:
            types, facts = np.load(folder / "types.npy"), np.load(folder / "pieces.npz")
            found = np.memmap(folder / "coefficients.f16", np.float16, "r")
            self.coefficients.append(found.reshape(*types.shape, 2, CODED))
            self.types.append(types)
            bands.append(facts["band_hz"])
            weights.append(facts["weight"])
        self.bands = np.concatenate(bands)
        self.starts = np.cumsum([0, *map(len, self.types)])
        weight = np.concatenate(weights).astype(np.float64)
        self.chances = np.cumsum(weight / weight.sum())
        self.seed = seed

    def batch(self, step: int, count: int, frames: int) -> Crop:
        """A batch of `count` crops of `frames` frames, at random gains, some with swapped or narrowed sides."""
        rng = np.random.default_rng((self.seed, step))
        coefficients = np.empty((count, frames, 2, CODED), np.float32)
        types = np.empty((count, frames), np.int64)
        audible = np.ones((count, BANDS), np.float32)
        centres = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) * 12.5
        for row in range(count):
            piece = min(int(np.searchsorted(self.chances, rng.random())), len(self.bands) - 1)
            folder = int(np.searchsorted(self.starts, piece, "right")) - 1
            number = piece - self.starts[folder]
            first = int(rng.integers(0, self.types[folder].shape[1] - frames + 1))
            found = self.coefficients[folder][number, first : first + frames]
            gain = 10 ** (rng.uniform(-15, 5) / 20) / SCALE
            narrow = rng.random() ** 2 if rng.random() < 0.2 else 1.0
            coefficients[row] = found * np.array([[gain], [gain * narrow * rng.choice((-1, 1))]], np.float32)
            types[row] = self.types[folder][number, first : first + frames]
            audible[row, centres > self.bands[piece]] = 0.3
        return Crop(torch.from_numpy(coefficients), torch.from_numpy(types), torch.from_numpy(audible))

"""A neurogram-similarity loss after ViSQOL's model of speech (Hines and Harte 2012; Chinen et al. 2020).

Both signals become loudness levels over time and the bands of a gammatone filter bank, in frames long enough
to smooth out single periods of the voice. Where their levels go up and down together, in a neighbourhood of
three frames by three bands, they are similar (the structure term of SSIM, Wang et al. 2004); quiet bands
count like loud ones. So the loss asks for the fine course of energy in every band, which costs few bits,
where waveform losses ask for nothing in bands that they cannot match. Alignment, which a codec does not need,
is left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.stft import powers

_SECONDS = 0.08
"""Length of a frame; a quarter of it is the hop."""
_BANDS, _LOWEST, _HIGHEST = 21, 50.0, 8000.0
_FLOOR = 1e-9
"""Power below which nothing is told apart."""
_KERNEL = ((0.0113, 0.0838, 0.0113), (0.0838, 0.6196, 0.0838), (0.0113, 0.0838, 0.0113))
"""Gaussian of half a cell."""
_LEVEL, _STRUCTURE = 1e-4, 4.5e-4
"""Constants of SSIM for a range of 1, as the measure has them."""


class Similarity(nn.Module):
    """Dissimilarity of neurograms, 1 - NSIM."""

    bands: Tensor
    hann: Tensor
    kernel: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop = round(_SECONDS * sample_rate / 4)
        size = 4 * self.hop
        hertz = torch.arange(size // 2 + 1) * sample_rate / size
        # Centres evenly on the ERB scale (Glasberg and Moore 1990), fourth-order gammatone magnitudes.
        quality, least = 9.26449, 24.7
        low, high = (math.log(f + quality * least) for f in (_LOWEST, min(_HIGHEST, sample_rate / 2)))
        centres = torch.exp(torch.linspace(low, high, _BANDS + 1)[:-1]) - quality * least
        width = 1.019 * (centres / quality + least)
        response = (1 + ((hertz[:, None] - centres) / width).square()) ** -4
        response[hertz > _HIGHEST] = 0
        hann = torch.hann_window(size)
        self.register_buffer("bands", response * (2 / size**2), persistent=False)
        self.register_buffer("hann", hann, persistent=False)
        self.register_buffer("kernel", torch.tensor(_KERNEL)[None, None], persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Dissimilarity (B,) of reconstruction y and original x, float32 (B, N); 0 when they are equal."""
        levels_x, levels_y = self._levels(x), self._levels(y)
        lowest = torch.minimum(levels_x, levels_y.detach()).amin((1, 2), keepdim=True)
        levels_x, levels_y = levels_x - lowest, levels_y - lowest
        stack = torch.stack([levels_x, levels_y, levels_x**2, levels_y**2, levels_x * levels_y], 1)
        padded = F.pad(stack, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
        smooth = torch.unflatten(F.conv2d(padded, self.kernel)[:, 0], 0, (-1, 5))
        mean_x, mean_y, square_x, square_y, product = smooth.unbind(1)
        level = (2 * mean_x * mean_y + _LEVEL) / (mean_x**2 + mean_y**2 + _LEVEL)
        variance = ((square_x - mean_x**2).clamp(min=0) * (square_y - mean_y**2).clamp(min=0) + 1e-9).sqrt()
        structure = (product - mean_x * mean_y + _STRUCTURE) / (variance + _STRUCTURE)
        return 1 - (level * structure).mean((1, 2))

    def _levels(self, x: Tensor) -> Tensor:
        """Half decibels (B, T, bands)."""
        return 5 * torch.log10(powers(x, self.hann, self.hop) @ self.bands + _FLOOR)

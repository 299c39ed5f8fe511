"""Rumble and thumps: what a decoder adds below every voice, where the original never has anything as loud.

Loss terms of bands and of waveforms hardly see it: there is nothing there to compare with, and its share of
the error is small. PESQ's model (ITU-T P.862) takes one loud moment in a band that is never heard in the
original for the colour of the whole recording, lays up to 20 dB of it over the original, and finds everything
else wrong: 1.2 where 2.6 is due.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.stft import emphasise, powers, unit_hann

_SECONDS = 0.032
"""Length of a frame; a quarter of it is the hop."""
_HIGHEST = 80.0
"""Hz up to which there is rumble."""
_EMPHASIS = 0.99
"""Of the difference of neighbouring samples: what is inaudibly low must not hide, by its leakage, what lies
above it."""
_FLOOR = 1e-3
"""Of the mean power of the original's bins after that: what is not heard beside it."""
_SILENCE = 3e-11
"""The same where there is nothing: about -70 dBFS at 60 Hz."""


class Rumble(nn.Module):
    """By how much the lowest bins exceed their loudest moment in the original: log10 of powers, mean over
    frames."""

    hann: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        size = 4 * round(_SECONDS * sample_rate / 4)
        self.hop, self.bins = size // 4, int(_HIGHEST * size / sample_rate) + 1
        self.register_buffer("hann", unit_hann(size), persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Rumble (B,) of reconstruction y against original x, float32 (B, N); 0 when they are equal."""
        original = self._power(x)
        floor = _FLOOR * original.mean((1, 2), keepdim=True) + _SILENCE
        loudest = original[..., 1 : self.bins].amax(1, keepdim=True) + floor
        low = self._power(y)[..., 1 : self.bins] + floor
        return torch.log10(low / loudest).clamp(min=0).sum(-1).mean(-1)

    def _power(self, x: Tensor) -> Tensor:
        return powers(emphasise(x, _EMPHASIS), self.hann, self.hop)

"""How alike two sounds are to an ear: structural similarity of levels in 64 bands and frames of 12 ms.

The picture of a sound is that of Zimtohrli (Alakuijala et al. 2024) in outline: filters of third order with
a width that grows with frequency, their energy in frames of 12 ms, logarithms above a threshold, and the similarity of
Hines and Harte (2012) over six frames and three bands. Filters are weights over Fourier powers, by three window lengths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HOP = 576
_BANDS, _LOWEST, _HIGHEST = 64, 30.0, 19500.0
_WINDOWS = ((2048, 0, 700), (1024, 700, 2500), (512, 2500, 24000))
"""Window, and the centres in Hz that it serves."""
_THRESHOLD = 10**-8.1
_OFFSET = 13.7
"""Natural logarithm that the threshold counts as."""
_INTENSITY, _STRUCTURE = 28.0, 1.7


class Hearing(nn.Module):
    """Dissimilarity of sounds at 48 kHz."""

    def __init__(self) -> None:
        super().__init__()
        octave = torch.linspace(math.log(_LOWEST + 250), math.log(_HIGHEST + 250), _BANDS + 1)
        edges = octave.exp() - 250
        centres = (edges[:-1] * edges[1:]).sqrt()
        width = 1.1 * edges.diff()
        sharp = (centres / edges.diff() / 11).clamp(max=1).square()
        for size, low, high in _WINDOWS:
            hertz = torch.arange(size // 2 + 1) * 48000 / size
            mine = (centres >= low) & (centres < high)
            around = (hertz[:, None] - centres[mine]) / width[mine].clamp(min=48000 / size)
            weights = (1 + around.square()) ** -3 * sharp[mine]
            window = torch.hann_window(size)
            # A full-scale sine gives 1 at its centre.
            reach = (
                torch.fft.rfft(window * torch.cos(2 * math.pi * torch.arange(size) / 8)).abs().square().sum()
            )
            self.register_buffer(f"filters{size}", weights / reach, persistent=False)
            self.register_buffer(f"window{size}", window, persistent=False)
        self.register_buffer("weights", torch.linspace(0.7, 1.4, _BANDS), persistent=False)

    def levels(self, sound: Tensor) -> Tensor:
        """Weighted natural logarithms of band energies, float32 (B, frames, 64), of sound, (B, n)."""
        frames = sound.shape[-1] // HOP - 1
        parts = []
        for size, _, _ in _WINDOWS:
            hop = HOP // 2 if size < 1024 else HOP
            padded = F.pad(sound, (size // 2, size // 2))
            pieces = padded.unfold(-1, size, hop) * self.get_buffer(f"window{size}")
            spectrum = torch.view_as_real(torch.fft.rfft(pieces)).square().sum(-1)
            power = spectrum @ self.get_buffer(f"filters{size}")
            if hop < HOP:
                power = power[:, : power.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2)
            parts.append(power[:, :frames])
        power = torch.cat(parts, -1)
        return (torch.log(power + _THRESHOLD) + (_OFFSET - math.log(_THRESHOLD))) * self.get_buffer("weights")

    def forward(self, theirs: Tensor, ours: Tensor) -> Tensor:
        """Mean dissimilarity, float32 (B,), of levels (B, frames, 64) of an original and a reconstruction."""
        stack = torch.stack((theirs, ours, theirs.square(), ours.square(), theirs * ours), 1)
        one, two, one_one, two_two, one_two = F.avg_pool2d(stack, (6, 3), 1).unbind(1)
        variances = (one_one - one.square()).clamp(min=0) * (two_two - two.square()).clamp(min=0)
        spread = (variances + 1e-4).sqrt()
        structure = ((one_two - one * two + _STRUCTURE) / (spread + _STRUCTURE)).clamp(min=0.3)
        product = (one * two).clamp(min=1e-3).sqrt()
        intensity = (2 * product + _INTENSITY) / (one + two + _INTENSITY)
        return 1 - (intensity * structure ** (1 / 3)).mean((1, 2))

"""An audible-disturbance loss after PESQ's perceptual model (ITU-T P.862 and P.862.2; Rix et al. 2001).

Both signals become loudness over time and Bark bands. The difference counts only beyond what the louder of
the two masks; what was added counts more than what is missing; bad moments count more than the mean. Time
alignment and filters of telephone handsets, which a codec does not need, are left out, and bands go on to
half the sample rate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.stft import powers, unit_hann

_SECONDS = 0.032
"""Length of a frame; frames overlap by half."""
_BARK_STEP = 0.4
_LISTENING_LEVEL = 79.0
"""dB SPL of active speech."""
_LOUDNESS = 0.23
"""Zwicker's exponent from excitation to loudness."""
_SONE = 0.185
"""Brings loudness to P.862's scale: 1 kHz at 40 dB SPL is 1."""
_FULL_SCALE_FLOOR = 1e-7
"""Power below which a crop counts as silence and is not made louder."""
_MOMENT = 20
"""Frames of an interval whose worst parts rule it."""


class Disturbance(nn.Module):
    """Symmetric and asymmetric disturbance, in units of PESQ's score: 4.5 minus them is near the raw
    score."""

    bands: Tensor
    threshold: Tensor
    hann: Tensor
    speech: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.window = 2 * round(_SECONDS * sample_rate / 2)
        hertz = torch.arange(self.window // 2 + 1) * sample_rate / self.window
        bark = 6 * torch.asinh(hertz / 600)  # Schroeder et al. 1979
        centres = torch.arange(1.0, float(bark[-1]), _BARK_STEP)
        filters = (1 - (bark[:, None] - centres).abs() / _BARK_STEP).clamp(min=0)
        kilohertz = 0.6 * torch.sinh(centres / 6)
        # Threshold in quiet (Terhardt 1979), dB SPL.
        quiet = 3.64 * kilohertz**-0.8 - 6.5 * torch.exp(-0.6 * (kilohertz - 3.3) ** 2) + 1e-3 * kilohertz**4
        self.register_buffer("bands", filters, persistent=False)
        self.register_buffer("threshold", 10 ** (quiet.clamp(max=70) / 10), persistent=False)
        self.register_buffer("hann", unit_hann(self.window), persistent=False)
        self.register_buffer("speech", ((hertz > 300) & (hertz < 3400)).float(), persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Disturbance (B,) of reconstruction y against original x, float32 (B, N); 0 when they are equal."""
        y_power, x_power = (powers(signal, self.hann, self.window // 2) for signal in (y, x))
        level = (x_power @ self.speech).mean(1) / self.window * 2
        gain = 10 ** (_LISTENING_LEVEL / 10) / (level + _FULL_SCALE_FLOOR)
        scale = (gain / self.window * 2)[:, None, None]
        y_bands, x_bands = y_power @ self.bands * scale, x_power @ self.bands * scale
        y_loud, x_loud = self._loudness(y_bands), self._loudness(x_bands)
        audible = ((y_loud - x_loud).abs() - 0.25 * torch.minimum(y_loud, x_loud)).clamp(min=0)
        added = ((y_bands + 50) / (x_bands + 50)).detach() ** 1.2
        added = added.clamp(max=12) * (added >= 3)
        weight = ((x_bands.sum(-1) + 1e5) / 1e7) ** -0.04
        span = _BARK_STEP * audible.shape[-1]
        symmetric = span * (audible.square().mean(-1) + 1e-9).sqrt() * weight
        asymmetric = span * (audible * added).mean(-1) * weight
        return 0.1 * _moments(symmetric) + 0.0309 * _moments(asymmetric)

    def _loudness(self, excitation: Tensor) -> Tensor:
        """Sone a Bark, up to a factor (Zwicker and Fastl 1999, equation 8.7)."""
        quiet = (self.threshold / 0.5) ** _LOUDNESS
        return (quiet * ((0.5 + 0.5 * excitation / self.threshold) ** _LOUDNESS - 1)).clamp(min=0) * _SONE


def _moments(frames: Tensor) -> Tensor:
    """Mean over intervals of 20 frames by the sixth power, over the crop by the square."""
    intervals = max(1, frames.shape[1] // _MOMENT)
    cut = frames[:, : intervals * (frames.shape[1] // intervals)].clamp(max=45)
    sixth = (torch.unflatten(cut, 1, (intervals, -1)) + 1e-3).pow(6).mean(-1).pow(1 / 6)
    return sixth.square().mean(-1).sqrt()

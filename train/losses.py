"""Losses between a reconstruction and its original, both float32 (B, N).

The waveform term, in decibels, comes first: without it a network learns the envelope of the spectrum and
never its harmonics. The mel and the compressed-spectrum terms say what the ear hears beyond that.
"""

from __future__ import annotations

import torch
import torchaudio.functional as AF
from torch import Tensor, nn

_RESOLUTIONS = ((512, 128, 40), (1024, 256, 80), (2048, 512, 128))
"""Window and hop in samples, and mel bands: bands grow with the window, or short windows have empty ones."""


class ReconstructionLoss(nn.Module):
    """Waveform, mel and spectrum terms, each a mean over the batch, about one when nothing is learned.

    - `waveform`: log10 of the error-to-signal ratio, of the signal and of the pre-emphasised signal.
    - `mel`: mean absolute difference of log10 mel spectra at three resolutions (Kumar et al. 2023).
    - `spectrum`: mean absolute difference of spectra whose magnitude is raised to 0.3, in magnitude and
      as complex numbers (Braun and Tashev 2021); relative to the original's.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for window, _, bands in _RESOLUTIONS:
            filters = AF.melscale_fbanks(
                window // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate, norm="slaney"
            )
            self.register_buffer(f"window{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"mel{window}", filters, persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The three terms of reconstruction y and original x, float32 (B, N), N at least 2048."""
        waveform = (_error_ratio(y, x) + _error_ratio(_emphasise(y), _emphasise(x))) / 2
        mel, spectrum = y.new_zeros(()), y.new_zeros(())
        for window, hop, _ in _RESOLUTIONS:
            (yr, yi), (xr, xi) = self._stft(y, window, hop), self._stft(x, window, hop)
            y_power, x_power = yr.square() + yi.square(), xr.square() + xi.square()
            filters = getattr(self, f"mel{window}")
            y_mel, x_mel = (torch.log10((p + 1e-9).sqrt() @ filters + 1e-5) for p in (y_power, x_power))
            mel = mel + (y_mel - x_mel).abs().mean()
            y_gain, x_gain = (y_power + 1e-6) ** -0.35, (x_power + 1e-6) ** -0.35
            magnitude = (y_gain * (y_power + 1e-6).sqrt() - x_gain * (x_power + 1e-6).sqrt()).abs().mean()
            phase = ((yr * y_gain - xr * x_gain).abs() + (yi * y_gain - xi * x_gain).abs()).mean()
            size = (x_gain * (x_power + 1e-6).sqrt()).mean().detach() + 1e-3
            spectrum = spectrum + (magnitude + 0.5 * phase) / size
        count = len(_RESOLUTIONS)
        return {"waveform": waveform, "mel": mel / count, "spectrum": spectrum / count}

    def _stft(self, x: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor]:
        hops = x[:, : x.shape[1] // hop * hop].unflatten(1, (-1, hop))
        overlaps = window // hop
        count = hops.shape[1] - overlaps + 1
        frames = torch.cat([hops[:, i : i + count] for i in range(overlaps)], dim=-1)
        spectrum = torch.fft.rfft(frames * getattr(self, f"window{window}"))
        return spectrum.real, spectrum.imag


def _emphasise(x: Tensor) -> Tensor:
    return x[:, 1:] - 0.9 * x[:, :-1]


def _error_ratio(y: Tensor, x: Tensor) -> Tensor:
    """log10 of error energy over signal energy; a floor keeps silence from ruling the batch."""
    floor = 1e-6
    ratio = ((y - x).square().mean(1) + floor) / (x.square().mean(1) + floor)
    return torch.log10(ratio + 1e-5).mean()

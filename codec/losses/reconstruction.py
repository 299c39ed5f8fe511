"""Losses between a reconstruction and its original, both float32 (B, N).

The waveform term, in decibels, comes first: without it a network learns the envelope of the spectrum and
never its harmonics. The mel and the compressed-spectrum terms say what the ear hears beyond that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.stft import emphasise, spectra, surroundings, unit_hann
from .low_frequency import Rumble
from .mel import mel_filters
from .nsim import Similarity
from .pesq import Disturbance

_RESOLUTIONS = ((512, 128, 64), (1024, 256, 128), (2048, 512, 256))
"""Window and hop in samples, and mel bands. Bands grow with the window: as many as are never empty, so that
the longest window tells harmonics apart up to 4 kHz."""


_EMPHASIS = 0.9
_FLOOR = 3e-9
"""Power of white noise at -85 dBFS."""


_LOUDNESS = 0.23
"""Exponent from power to loudness (Zwicker and Fastl 1999)."""
_VOICED = 5000.0
"""Hz up to which harmonics are compared."""
_AROUND = 300.0
"""Hz to either side that a line is compared with: about the distance of a high voice's harmonics."""
_VALLEY = 0.03
"""Of the mean around it, where a valley between harmonics is deep enough."""


class Bands(nn.Module):
    """Spectra at one resolution compared by mel bands."""

    hann: Tensor
    filters: Tensor

    def __init__(self, window: int, hop: int, bands: int, sample_rate: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("hann", unit_hann(window), persistent=False)
        self.register_buffer("filters", mel_filters(window // 2 + 1, bands, sample_rate), persistent=False)

    def forward(self, yr: Tensor, yi: Tensor, xr: Tensor, xi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectrum, mel and loudness terms (B,) of real and imaginary parts float32 (B, T, bins)."""
        error = ((yr - xr).square() + (yi - xi).square()) @ self.filters
        y_power = (yr.square() + yi.square()) @ self.filters
        x_power = (xr.square() + xi.square()) @ self.filters
        # 0.1: beyond 10 dB a band has less and less to win, and its bits go to bands that have none yet.
        # Bands far below the mean of their crop are hardly heard and need not be matched. The top octave
        # of speech lies 50 dB below its vowels and must not be lost under the floor.
        floor = 1e-5 * x_power.mean((1, 2), keepdim=True) + _FLOOR
        spectrum = torch.log10((error + floor) / (x_power + floor) + 0.1).mean((1, 2))
        distance = torch.log10(y_power + _FLOOR) - torch.log10(x_power + _FLOOR)
        mel = distance.abs().mean((1, 2)) / 2
        loud_y, loud_x = (y_power + floor) ** _LOUDNESS, (x_power + floor) ** _LOUDNESS
        return spectrum, mel, (loud_y - loud_x).abs().mean((1, 2)) / loud_x.mean((1, 2))


class Harmonics(nn.Module):
    """Spectra compared line by line, each relative to what is around it."""

    around: Tensor

    def __init__(self, window: int, sample_rate: int) -> None:
        super().__init__()
        hertz = torch.arange(window // 2 + 1) * sample_rate / window
        self.register_buffer("around", surroundings(hertz[hertz < _VOICED], _AROUND), persistent=False)

    def forward(self, yr: Tensor, yi: Tensor, xr: Tensor, xi: Tensor) -> Tensor:
        """Mean absolute difference (B,) for real and imaginary parts float32 (B, T, bins)."""
        return (self._lines(yr, yi) - self._lines(xr, xi)).abs().mean((1, 2))

    def _lines(self, real: Tensor, imag: Tensor) -> Tensor:
        """log10 of the lines of a spectrum over what is around them."""
        voiced = (real.square() + imag.square())[..., : len(self.around)]
        return torch.log10(voiced / (voiced @ self.around + _FLOOR) + _VALLEY)


class ReconstructionLoss(nn.Module):
    """Waveform, spectrum, mel, loudness, disturbance, similarity, harmonics and rumble terms of every item of
    a batch.

    - `waveform`: log10 of the error-to-signal energy ratio, of the signal and of the pre-emphasised signal.
    - `spectrum`: log10 of the error-to-signal energy ratio of complex spectra in every frame and mel band,
      at three resolutions. The plain waveform term is ruled by what is loudest, below 1 kHz in speech; here
      every audible band counts alike, as in segmental SNR.
    - `mel`: mean absolute difference of log10 mel spectra at three resolutions (Kumar et al. 2023). It holds
      up the level of what is too noisy to be matched as a waveform, where the other two prefer silence.
    - `loudness`: mean absolute difference of the bands' loudness, over the mean loudness. The ear forgives in
      quiet bands what decibels do not.
    - `disturbance`: what is left when masking is taken into account, in units of PESQ's score.
    - `similarity`: where neurograms do not go up and down together, 1 - ViSQOL's NSIM.
    - `harmonics`: mean absolute difference of log10 spectra at the longest resolution over their mean around
      every line. Lines at a wrong pitch please all terms above, which see bands; they do not please this one.
    - `rumble`: what is louder below all voices than it ever was, which those terms hardly hear.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.disturbance, self.similarity = Disturbance(sample_rate), Similarity(sample_rate)
        self.rumble = Rumble(sample_rate)
        self.resolutions = nn.ModuleList(Bands(*resolution, sample_rate) for resolution in _RESOLUTIONS)
        self.harmonics = Harmonics(_RESOLUTIONS[-1][0], sample_rate)

    def forward(self, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The terms (B,) of reconstruction y and original x, float32 (B, N), N at least 2048."""
        waveform = _error_ratio(y, x)
        waveform = (waveform + _error_ratio(emphasise(y, _EMPHASIS), emphasise(x, _EMPHASIS))) / 2
        found = []
        for bands in self.resolutions:
            assert isinstance(bands, Bands)
            parts = (*spectra(y, bands.hann, bands.hop), *spectra(x, bands.hann, bands.hop))
            found.append(torch.stack(bands(*parts)))
        spectrum, mel, loudness = torch.stack(found).mean(0)
        return {
            "waveform": waveform,
            "spectrum": spectrum,
            "mel": mel,
            "loudness": loudness,
            "disturbance": self.disturbance(y, x),
            "similarity": self.similarity(y, x),
            "harmonics": self.harmonics(*parts),  # of the last resolution, the longest
            "rumble": self.rumble(y, x),
        }


def _error_ratio(y: Tensor, x: Tensor) -> Tensor:
    """log10 of error energy over signal energy; a floor keeps silence from ruling the batch."""
    floor = 1e-6
    ratio = ((y - x).square().mean(1) + floor) / (x.square().mean(1) + floor)
    return torch.log10(ratio + 1e-5)

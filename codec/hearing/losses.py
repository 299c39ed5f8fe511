"""Losses between a reconstruction and its original, both float32 (B, N).

The waveform term, in decibels, comes first: without it a network learns the envelope of the spectrum and
never its harmonics. The mel and the compressed-spectrum terms say what the ear hears beyond that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .disturbance import Disturbance
from .mel import mel_filters
from .similarity import Similarity
from .spectra import emphasise, spectra, surroundings

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


class ReconstructionLoss(nn.Module):
    """Waveform, spectrum, mel, loudness, disturbance and similarity terms of every item of a batch.

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
    - `harmonics`: mean absolute difference of log10 spectra at the longest resolution over their mean around every
      line. Lines at a wrong pitch please all terms above, which see bands; they do not please this one.
    """

    around: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.disturbance, self.similarity = Disturbance(sample_rate), Similarity(sample_rate)
        for window, _, bands in _RESOLUTIONS:
            filters = mel_filters(window // 2 + 1, bands, sample_rate)
            hann = torch.hann_window(window)
            self.register_buffer(f"window{window}", hann / hann.square().sum().sqrt(), persistent=False)
            self.register_buffer(f"mel{window}", filters, persistent=False)
        hertz = torch.arange(_RESOLUTIONS[-1][0] // 2 + 1) * sample_rate / _RESOLUTIONS[-1][0]
        hertz = hertz[hertz < _VOICED]
        self.register_buffer("around", surroundings(hertz, _AROUND), persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The terms (B,) of reconstruction y and original x, float32 (B, N), N at least 2048."""
        waveform = _error_ratio(y, x)
        waveform = (waveform + _error_ratio(emphasise(y, _EMPHASIS), emphasise(x, _EMPHASIS))) / 2
        mel, spectrum, loudness = (y.new_zeros(len(y)) for _ in range(3))
        for window, hop, _ in _RESOLUTIONS:
            filters = getattr(self, f"mel{window}")
            hann = getattr(self, f"window{window}")
            (yr, yi), (xr, xi) = spectra(y, hann, hop), spectra(x, hann, hop)
            error = ((yr - xr).square() + (yi - xi).square()) @ filters
            y_lines, x_lines = yr.square() + yi.square(), xr.square() + xi.square()
            y_power, x_power = y_lines @ filters, x_lines @ filters
            # 0.1: beyond 10 dB a band has less and less to win, and its bits go to bands that have none yet.
            # Bands far below the mean of their crop are hardly heard and need not be matched. The top octave
            # of speech lies 50 dB below its vowels and must not be lost under the floor.
            floor = 1e-5 * x_power.mean((1, 2), keepdim=True) + _FLOOR
            spectrum = spectrum + torch.log10((error + floor) / (x_power + floor) + 0.1).mean((1, 2))
            distance = torch.log10(y_power + _FLOOR) - torch.log10(x_power + _FLOOR)
            mel = mel + distance.abs().mean((1, 2)) / 2
            loud_y, loud_x = (y_power + floor) ** _LOUDNESS, (x_power + floor) ** _LOUDNESS
            loudness = loudness + (loud_y - loud_x).abs().mean((1, 2)) / loud_x.mean((1, 2))
        # Of the last resolution, the longest.
        harmonics = (self._lines(y_lines) - self._lines(x_lines)).abs().mean((1, 2))
        count = len(_RESOLUTIONS)
        return {
            "waveform": waveform, "spectrum": spectrum / count, "mel": mel / count, "loudness": loudness / count,
            "disturbance": self.disturbance(y, x), "similarity": self.similarity(y, x), "harmonics": harmonics,
        }  # fmt: skip

    def _lines(self, power: Tensor) -> Tensor:
        """log10 of the lines of a spectrum over what is around them."""
        voiced = power[..., : len(self.around)]
        return torch.log10(voiced / (voiced @ self.around + _FLOOR) + _VALLEY)


def _error_ratio(y: Tensor, x: Tensor) -> Tensor:
    """log10 of error energy over signal energy; a floor keeps silence from ruling the batch."""
    floor = 1e-6
    ratio = ((y - x).square().mean(1) + floor) / (x.square().mean(1) + floor)
    return torch.log10(ratio + 1e-5)

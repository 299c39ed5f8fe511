"""What fills the spectrum where the decoder cannot follow the waveform: harmonics and noise.

At a few kilobits a second only the lowest kilohertz are followed. A network that must say what lies above
gives every frame the same phases there, and frames that repeat with every hop are a buzz at the hop rate
under every voice. Measures of quality do not hear it, ears do. So what is above is shaped from an excitation,
as in speech coders before neural ones: rectified low bands have harmonics of the same pitch (Makhoul and
Berouti 1979, "High-frequency regeneration in speech coding systems"), and what is not voiced is noise
(Griffin and Lim 1988, "Multiband excitation vocoder").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.stft import surroundings
from .blocks import from_spectrum, magnitude, to_spectrum

_ROWS = 127
"""Of the table of phases, one for each latent frame; a prime."""
_SOURCES = ((160.0, 500.0), (500.0, 1000.0))
"""Middles of the slopes, in Hz, of the bands that are rectified, each by itself: one strong harmonic alone
would hide the others'. Nothing below 60 Hz: what never crosses zero has no harmonics but rounding."""
_SLOPE = 200.0
"""Hz over which a band fades."""
_REACH = 333.0
"""Hz to either side over which the excitation is levelled: wide enough to leave harmonics standing."""
_FLOOR = 1e-12


class Excitation(nn.Module):
    """Fills predicted spectra: (B, T·stride, 3·bins) → the same shape.

    A predicted bin is multiplied by u + √(1 - u²)·(√v·h + √(1 - v)·n): h are harmonics, n noise, both of mean
    power 1 in every part of the spectrum; u says whether the prediction itself is the waveform, v how voiced
    it is. Both shares are learned; above `limit` u is 0. h is the spectrum of |w·x| = w·|x| for the frame's
    own windowed low bands w·x, so neighbouring frames agree on it without any further delay. n has phases
    from a table, whose row the latent frame draws by its own quantized values. There is no state: whole
    files, live packets and parts of files sound alike.

    Args:
        limit: Hz above which no waveform is followed.
        sample_rate: Hz.
        window: samples of a spectral frame.
        stride: spectral frames in a latent frame.
        channels: of the latents.
        width: of the features that the shares are told from.
    """

    bands: Tensor
    middle: Tensor
    level: Tensor
    reach: Tensor
    cosine: Tensor
    sine: Tensor
    draw: Tensor

    def __init__(
        self, limit: float, sample_rate: int, window: int, stride: int, channels: int, width: int
    ) -> None:
        super().__init__()
        hertz = torch.arange(window // 2 + 1) * sample_rate / window
        self.window, bins = window, len(hertz)
        self.shares = nn.Linear(width, 2 * bins)
        with torch.no_grad():
            self.shares.weight.zero_()
            self.shares.bias[:bins] = ((limit - 250 - hertz) / 50).clamp(-6, 6)
            self.shares.bias[bins:] = 1.0
        bands = torch.stack([_ramp(hertz - low) * _ramp(high - hertz) for low, high in _SOURCES])
        self.register_buffer("bands", bands[:, hertz < _SOURCES[-1][1] + _SLOPE], persistent=False)
        self.register_buffer("middle", 1.0 - 2 * (torch.arange(bins) % 2), persistent=False)
        self.register_buffer("level", surroundings(hertz, _REACH), persistent=False)
        self.register_buffer("reach", _ramp(limit - hertz), persistent=False)
        count = torch.arange(_ROWS * stride * bins).reshape(_ROWS, stride, bins)
        # A hash of the place in the table, the same on every machine (multiplication by primes, middle bits).
        angles = ((count * 2654435761 % (1 << 32)) // 769 * 40503 % 65536) * (2 * torch.pi / 65536)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.register_buffer("draw", (1 + torch.arange(channels) * 37 % 89).float(), persistent=False)

    def forward(self, spectrum: Tensor, features: Tensor, values: Tensor) -> Tensor:
        """Fill a spectrum.

        Args:
            spectrum: the three predictions of `Synthesis` for every bin, float32.
            features: (B, T·stride, width), what they were predicted from.
            values: (B, T, D), the latents as decoded.
        """
        log_magnitude, real, imag = spectrum.chunk(3, dim=-1)
        follow, voiced = torch.sigmoid(self.shares(features).float()).chunk(2, dim=-1)
        follow = follow * self.reach
        with torch.no_grad():
            followed = magnitude(log_magnitude) * follow
            harmonics = self._harmonics(followed * real, followed * imag)
            noise = self._noise(values)
        rest = (1 - follow.square()).clamp(min=1e-6)
        loud, soft = (rest * voiced).sqrt(), (rest * (1 - voiced) + 1e-6).sqrt()
        x, y = (loud * h + soft * n for h, n in zip(harmonics, noise, strict=True))
        x = x + follow
        return torch.cat([log_magnitude, real * x - imag * y, real * y + imag * x], -1)

    def _harmonics(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts (B, T, bins) of the rectified low bands of a spectrum, levelled."""
        low_real, low_imag = (part[..., None, : self.bands.shape[1]] * self.bands for part in (real, imag))
        rectified = from_spectrum(low_real, low_imag, self.window).abs()
        x, y = to_spectrum(rectified - rectified.mean(-1, keepdim=True))
        # Time counts from the middle of the frame, where a network puts its pulse: that is then no shift
        # around the window.
        x, y = self._levelled(x * self.middle, y * self.middle)
        return self._levelled(x.sum(-2), y.sum(-2))

    def _levelled(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        scale = ((real.square() + imag.square()) @ self.level + _FLOOR).rsqrt()
        return real * scale, imag * scale

    def _noise(self, values: Tensor) -> tuple[Tensor, Tensor]:
        # Whole numbers below 2^24: their sum is exact in any order.
        marks = torch.round(values.float() * 1024) * self.draw
        row = torch.remainder(marks.sum(-1), _ROWS).long()
        return self.cosine[row].flatten(1, 2), self.sine[row].flatten(1, 2)


def _ramp(hertz: Tensor) -> Tensor:
    """From 0 to 1 around 0 Hz."""
    return (hertz / _SLOPE + 0.5).clamp(0, 1)

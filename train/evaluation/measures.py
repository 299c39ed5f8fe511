"""Quality of a decoded clip. PESQ-WB and ViSQOL look at 16 kHz, ESTOI at 10 kHz; the names say so."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray
from torch import Tensor

from .clips import Original
from .codecs import Decoded
from .metrics import align, score

HIGHER_IS_BETTER = {
    "PESQ-WB (16 kHz)": True, "ViSQOL speech (16 kHz)": True, "ESTOI (10 kHz)": True, "SI-SDR dB": True,
    "mel distance dB": False, "LSD 8-12 kHz dB": False, "comb dB": False, "bandwidth kHz": True,
    "PSNR RGB dB": True, "PSNR YUV 6:1:1 dB": True, "MS-SSIM": True,
}  # fmt: skip
"""Measures, and which way is better."""
_NAMES = {"PESQ-WB": "PESQ-WB (16 kHz)", "ViSQOL": "ViSQOL speech (16 kHz)", "ESTOI": "ESTOI (10 kHz)",
          "SI-SDR": "SI-SDR dB"}  # fmt: skip
HEADLINE = {"sound": "PESQ-WB (16 kHz)", "picture": "PSNR RGB dB", "video": "PSNR YUV 6:1:1 dB"}
"""The measure that rate differences are given by."""


def measure(original: Original, decoded: Decoded) -> dict[str, float]:
    """Every measure of a decoded clip; for sound also the shift in samples that aligned it."""
    if original.kind == "sound":
        return _sound(
            cast(NDArray[np.float32], original.data),
            cast(NDArray[np.float32], decoded.data),
            int(original.rate),
        )
    return _pictures(cast(NDArray[np.uint8], original.data), cast(NDArray[np.uint8], decoded.data))


def _sound(x: NDArray[np.float32], y: NDArray[np.float32], rate: int) -> dict[str, float]:
    aligned, shift = align(y, x)
    found = {_NAMES[name]: value for name, value in score(aligned, x, rate).items()}
    size = 2 * round(0.016 * rate)
    a, b = (_spectrogram(torch.from_numpy(signal), size, size // 2) for signal in (x, aligned))
    mel = AF.melscale_fbanks(a.shape[1], 0.0, rate / 2, 80, rate, norm="slaney", mel_scale="slaney")
    found["mel distance dB"] = float((_db(a @ mel) - _db(b @ mel)).abs().mean())
    hertz = torch.linspace(0, rate / 2, a.shape[1])
    top = (hertz >= 8000) & (hertz <= 12000)
    if top.any():
        found["LSD 8-12 kHz dB"] = float((_db(a[:, top]) - _db(b[:, top])).square().mean(1).sqrt().mean())
    if len(x) >= 2 * _comb_window(rate):
        found["comb dB"] = _comb(aligned, x, rate)
    power = b.mean(0)
    loud = power > 1e-6 * power.max()
    found["bandwidth kHz"] = float(hertz[loud].max() / 1000) if loud.any() else 0.0
    return {**found, "shift samples": float(shift)}


def _comb(y: NDArray[np.float32], x: NDArray[np.float32], rate: int) -> float:
    """How much deeper evenly spaced lines are in y than in x, 1-8 kHz, at the spacing from 40 to 200 Hz where most.

    The long-term spectrum in dB, less its trend, is looked at as a signal along frequency. A codec that repeats its frames has
    lines at multiples of their rate: a buzz that no other measure here hears. A voice's own pitch moves and leaves none.
    """
    size = _comb_window(rate)
    hertz = np.arange(size // 2 + 1) * rate / size
    kept = (hertz >= 1000) & (hertz < 8000)
    spacings = np.arange(40, 200.5, 0.5)
    waves = np.exp(2j * np.pi * hertz[kept] / spacings[:, None])
    depths = []
    for signal in (y, x):
        level = _db(_spectrogram(torch.from_numpy(signal), size, size // 4).mean(0)).numpy()
        around = np.convolve(level, np.ones(31) / 31, "same")
        depths.append(2 * np.abs(waves @ (level - around)[kept]) / kept.sum())
    return float((depths[0] - depths[1]).max())


def _comb_window(rate: int) -> int:
    """Samples, about a sixth of a second: long enough to tell lines of 40 Hz apart. A clip needs two of them."""
    return 1 << round(np.log2(0.17 * rate))


def _spectrogram(x: Tensor, size: int, hop: int) -> Tensor:
    """Power (frames, bins) of frames of `size` samples, every `hop`; what is shorter than a frame fills up with silence."""
    x = torch.nn.functional.pad(x, (0, max(0, size - len(x))))
    spectrum = torch.stft(x, size, hop, window=torch.hann_window(size), return_complex=True)
    return spectrum.abs().square().T


def _db(power: Tensor) -> Tensor:
    return 10 * torch.log10(power + 1e-8)


def _pictures(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> dict[str, float]:
    from pytorch_msssim import ms_ssim

    count = min(len(x), len(y))
    a, b = (torch.from_numpy(v[:count].astype(np.float32)).permute(0, 3, 1, 2) for v in (x, y))
    per_frame = 10 * torch.log10(255**2 / (a - b).square().mean((1, 2, 3)).clamp(min=1e-3))
    yuv = [_mean_psnr(p, q) for p, q in zip(_yuv420(a), _yuv420(b), strict=True)]
    found = {"PSNR RGB dB": float(per_frame.mean()), "PSNR YUV 6:1:1 dB": (6 * yuv[0] + yuv[1] + yuv[2]) / 8}
    if min(a.shape[2:]) > 160:  # five scales of an 11-tap window
        found["MS-SSIM"] = float(ms_ssim(a, b, data_range=255.0))
    return found


def _yuv420(rgb: Tensor) -> list[Tensor]:
    """Luma and halved chroma of BT.601, float32 (T, H, W) each."""
    r, g, b = rgb.unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = [(b - luma) * 0.564, (r - luma) * 0.713]
    return [luma, *(torch.nn.functional.avg_pool2d(c[:, None], 2, ceil_mode=True)[:, 0] for c in chroma)]


def _mean_psnr(a: Tensor, b: Tensor) -> float:
    return float((10 * torch.log10(255**2 / (a - b).square().mean((1, 2)).clamp(min=1e-3))).mean())

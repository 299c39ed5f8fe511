"""Quality of a decoded clip. PESQ-WB and ViSQOL look at 16 kHz, ESTOI at 10 kHz."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, cast

import numpy as np
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray
from torch import Tensor

from .clips import Decoded, Original

Signal = NDArray[np.float32]
"""Samples (n,)."""
_VISQOL_SECONDS = 0.8
"""What ViSQOL needs to find a patch of speech in."""
HIGHER_IS_BETTER = {
    "PESQ-WB (16 kHz)": True,
    "ViSQOL speech (16 kHz)": True,
    "ESTOI (10 kHz)": True,
    "SI-SDR dB": True,
    "mel distance dB": False,
    "LSD 8-12 kHz dB": False,
    "comb dB": False,
    "bandwidth kHz": True,
    "PSNR RGB dB": True,
    "PSNR YUV 6:1:1 dB": True,
    "MS-SSIM": True,
}
"""Measures, and which way is better."""
_NAMES = {
    "PESQ-WB": "PESQ-WB (16 kHz)",
    "ViSQOL": "ViSQOL speech (16 kHz)",
    "ESTOI": "ESTOI (10 kHz)",
    "SI-SDR": "SI-SDR dB",
}
"""Of `score`, with their bandwidth or unit."""
HEADLINE = {"sound": "PESQ-WB (16 kHz)", "picture": "PSNR RGB dB", "video": "PSNR YUV 6:1:1 dB"}
"""The measure that rate differences are given by."""


def si_sdr(estimate: Tensor, reference: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of samples (N,) (Le Roux et al. 2019)."""
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference + 1e-9) * reference
    error = estimate - target
    return float(10 * torch.log10((target @ target + 1e-9) / (error @ error + 1e-9)))


def pesq_wideband(estimate: Tensor, reference: Tensor, sample_rate: int) -> float | None:
    """PESQ-WB (ITU-T P.862.2) of samples (N,); None without the `pesq` package or without speech."""
    try:
        from pesq import PesqError, pesq
    except ImportError:
        return None
    pair = [AF.resample(x, sample_rate, 16000).numpy().astype(np.float32) for x in (reference, estimate)]
    score = pesq(16000, *pair, "wb", on_error=PesqError.RETURN_VALUES)
    return float(score) if score > 0 else None


def estoi(estimate: Tensor, reference: Tensor, sample_rate: int) -> float | None:
    """Extended short-time objective intelligibility, 0 … 1 (Jensen and Taal 2016) of samples (N,).

    None without `pystoi`, or with too little that can be heard (less than 0.4 s).
    """
    try:
        from pystoi import stoi
    except ImportError:
        return None
    with warnings.catch_warnings():
        # Too little to hear is told by a warning, and a figure that is none.
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(reference.numpy(), estimate.numpy(), sample_rate, extended=True))
        except (RuntimeWarning, np.exceptions.AxisError):
            return None


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")  # the lattice mapper where its runtime is installed, as in the C++ program
    return api


def visqol_speech(estimate: Tensor, reference: Tensor, sample_rate: int) -> float | None:
    """ViSQOL in speech mode, MOS-LQO 1 … 5 (Chinen et al. 2020) of samples (N,).

    None without `visqol-python`, and in less than 0.8 s or in silence, where there is no patch of speech to
    compare.
    """
    try:
        api = _visqol()
    except ImportError:
        return None
    if len(reference) < _VISQOL_SECONDS * sample_rate:
        return None
    pair = [AF.resample(x, sample_rate, 16000).double().numpy() for x in (reference, estimate)]
    mos = float(api.measure_from_arrays(*pair, 16000).moslqo)
    return mos if np.isfinite(mos) else None  # silence has no neurogram


def score(estimate: Signal, reference: Signal, sample_rate: int) -> dict[str, float]:
    """Every measure there is of two signals (n,) of the same length and rate."""
    y, x = torch.from_numpy(np.ascontiguousarray(estimate)), torch.from_numpy(np.ascontiguousarray(reference))
    scores = {
        "PESQ-WB": pesq_wideband(y, x, sample_rate),
        "ViSQOL": visqol_speech(y, x, sample_rate),
        "ESTOI": estoi(y, x, sample_rate),
        "SI-SDR": si_sdr(y, x),
    }
    return {name: value for name, value in scores.items() if value is not None}


def align(estimate: Signal, reference: Signal, reach: int = 2000) -> tuple[Signal, int]:
    """The estimate (n,) shifted by up to `reach` samples to where it correlates best, and by how many."""
    size = 1 << (len(estimate) + len(reference)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(reference, size)), size)
    reach = min(reach, size // 2 - 1)
    lags = np.concatenate([np.arange(reach + 1), np.arange(-reach, 0)])
    lag = int(lags[cross[lags].argmax()])
    shifted = estimate[lag:] if lag >= 0 else np.pad(estimate, (-lag, 0))
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)], lag


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
    scores = {_NAMES[name]: value for name, value in score(aligned, x, rate).items()}
    size = 2 * round(0.016 * rate)
    a, b = (_spectrogram(torch.from_numpy(signal), size, size // 2) for signal in (x, aligned))
    mel = AF.melscale_fbanks(a.shape[1], 0.0, rate / 2, 80, rate, norm="slaney", mel_scale="slaney")
    scores["mel distance dB"] = float((_db(a @ mel) - _db(b @ mel)).abs().mean())
    hertz = torch.linspace(0, rate / 2, a.shape[1])
    top = (hertz >= 8000) & (hertz <= 12000)
    if top.any():
        scores["LSD 8-12 kHz dB"] = float((_db(a[:, top]) - _db(b[:, top])).square().mean(1).sqrt().mean())
    if len(x) >= 2 * _comb_window(rate):
        scores["comb dB"] = _comb(aligned, x, rate)
    power = b.mean(0)
    loud = power > 1e-6 * power.max()
    scores["bandwidth kHz"] = float(hertz[loud].max() / 1000) if loud.any() else 0.0
    return {**scores, "shift samples": float(shift)}


def _comb(y: NDArray[np.float32], x: NDArray[np.float32], rate: int) -> float:
    """How much deeper lines are in y than in x, 1-8 kHz, at the even spacing from 40 to 200 Hz where most.

    The long-term spectrum in dB, less its trend, is looked at as a signal along frequency. A codec that
    repeats its frames has lines at multiples of their rate: a buzz that no other measure here hears. A
    voice's own pitch moves and leaves none.
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
    """Samples of a sixth of a second, which tell lines of 40 Hz apart. A clip needs two of them."""
    return 1 << round(float(np.log2(0.17 * rate)))


def _spectrogram(x: Tensor, size: int, hop: int) -> Tensor:
    """Power (frames, bins) of frames of `size` samples, every `hop`; zeros behind a short signal."""
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
    scores = {"PSNR RGB dB": float(per_frame.mean()), "PSNR YUV 6:1:1 dB": (6 * yuv[0] + yuv[1] + yuv[2]) / 8}
    if min(a.shape[2:]) > 160:  # five scales of an 11-tap window
        scores["MS-SSIM"] = float(ms_ssim(a, b, data_range=255.0))
    return scores


def _yuv420(rgb: Tensor) -> list[Tensor]:
    """Luma and halved chroma of BT.601, float32 (T, H, W) each."""
    r, g, b = rgb.unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = [(b - luma) * 0.564, (r - luma) * 0.713]
    return [luma, *(torch.nn.functional.avg_pool2d(c[:, None], 2, ceil_mode=True)[:, 0] for c in chroma)]


def _mean_psnr(a: Tensor, b: Tensor) -> float:
    return float((10 * torch.log10(255**2 / (a - b).square().mean((1, 2)).clamp(min=1e-3))).mean())

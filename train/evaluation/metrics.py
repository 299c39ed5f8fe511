"""Quality measures of a decoded clip. PESQ and ViSQOL look at 16 kHz, ESTOI at 10 kHz."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray
from torch import Tensor

Signal = NDArray[np.float32]
_VISQOL_SECONDS = 0.8
"""What ViSQOL needs to find a patch of speech in."""


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
    """Extended short-time objective intelligibility, 0 … 1 (Jensen and Taal 2016); None without `pystoi` or with too little
    that can be heard (less than 0.4 s)."""
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
    """ViSQOL in speech mode, MOS-LQO 1 … 5 (Chinen et al. 2020) of samples (N,); None without `visqol-python`
    or in less than 0.8 s and in silence, where there is no patch of speech to compare."""
    try:
        api = _visqol()
    except ImportError:
        return None
    if len(reference) < _VISQOL_SECONDS * sample_rate:
        return None
    pair = [AF.resample(x, sample_rate, 16000).double().numpy() for x in (reference, estimate)]
    found = float(api.measure_from_arrays(*pair, 16000).moslqo)
    return found if np.isfinite(found) else None  # silence has no neurogram


def score(estimate: Signal, reference: Signal, sample_rate: int) -> dict[str, float]:
    """Every measure there is of two signals (n,) of the same length and rate."""
    y, x = torch.from_numpy(np.ascontiguousarray(estimate)), torch.from_numpy(np.ascontiguousarray(reference))
    found = {
        "PESQ-WB": pesq_wideband(y, x, sample_rate),
        "ViSQOL": visqol_speech(y, x, sample_rate),
        "ESTOI": estoi(y, x, sample_rate),
        "SI-SDR": si_sdr(y, x),
    }
    return {key: value for key, value in found.items() if value is not None}


def align(estimate: Signal, reference: Signal, reach: int = 2000) -> tuple[Signal, int]:
    """The estimate (n,) shifted to where it correlates best with the reference, and the shift in samples, up to `reach`."""
    size = 1 << (len(estimate) + len(reference)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(reference, size)), size)
    reach = min(reach, size // 2 - 1)
    lags = np.concatenate([np.arange(reach + 1), np.arange(-reach, 0)])
    lag = int(lags[cross[lags].argmax()])
    shifted = estimate[lag:] if lag >= 0 else np.pad(estimate, (-lag, 0))
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)], lag

"""Quality measures of a decoded clip, and Opus beside it. PESQ and ViSQOL look at 16 kHz, ESTOI at 10 kHz."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
import torch
import torchaudio.functional as AF
from av.audio.frame import AudioFrame
from fsqcodec.media import Resampler
from numpy.typing import NDArray
from torch import Tensor

Signal = NDArray[np.float32]


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
    """Extended short-time objective intelligibility, 0 … 1 (Jensen and Taal 2016); None without `pystoi`."""
    try:
        from pystoi import stoi
    except ImportError:
        return None
    return float(stoi(reference.numpy(), estimate.numpy(), sample_rate, extended=True))


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")  # the lattice mapper where its runtime is installed, as in the C++ program
    return api


def visqol_speech(estimate: Tensor, reference: Tensor, sample_rate: int) -> float | None:
    """ViSQOL in speech mode, MOS-LQO 1 … 5 (Chinen et al. 2020) of samples (N,); None without `visqol-python`."""
    try:
        api = _visqol()
    except ImportError:
        return None
    pair = [AF.resample(x, sample_rate, 16000).double().numpy() for x in (reference, estimate)]
    return float(api.measure_from_arrays(*pair, 16000).moslqo)


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


def align(estimate: Signal, reference: Signal, reach: int = 2000) -> Signal:
    """The estimate (n,) shifted by up to `reach` samples to where it correlates best with the reference."""
    size = 1 << (len(estimate) + len(reference)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(reference, size)), size)
    lags = np.concatenate([np.arange(reach + 1), np.arange(-reach, 0)])
    lag = int(lags[cross[lags].argmax()])
    shifted = estimate[lag:] if lag >= 0 else np.pad(estimate, (-lag, 0))
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)]


def opus_round_trip(audio: Signal, sample_rate: int, kbps: float) -> tuple[Signal, int]:
    """A mono signal (n,) through libopus (VBR, 20 ms), aligned, and the bytes of its packets."""
    resampler = Resampler(1, sample_rate, 48000)
    fast = np.concatenate([resampler.push(audio[None]), resampler.flush()], axis=1)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=48000, layout="mono", bit_rate=int(kbps * 1000))
        stream.options = {"application": "voip"}
        samples = np.clip(np.rint(fast * 32767), -32768, 32767).astype(np.int16)
        size = 0
        for start in range(0, samples.shape[1], 48000):
            frame = AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, start : start + 48000]), "s16", "mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            for packet in stream.encode(frame):
                size += packet.size
                out.mux(packet)
        for packet in stream.encode(None):
            size += packet.size
            out.mux(packet)
    file.seek(0)
    from fsqcodec.media import AudioReader

    with AudioReader(file, sample_rate) as reader:
        back = reader.read()[0]
    return align(back, audio), size

"""Augmentation of training crops: equaliser, rooms, and noise or music behind the voice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SNR = (5.0, 25.0)
"""Decibels of a voice above what is behind it, in training."""
_REVERBERATION = (0.1, 0.7)
"""Seconds in which a room's sound falls by 60 dB."""


def equalise(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Audio (n,) under a random smooth frequency response, ±6 dB at six points of the octaves."""
    size = _fast(len(audio))
    spectrum = torch.fft.rfft(audio, n=size)
    points = torch.from_numpy(rng.uniform(-6, 6, 6)).float()[None, None]
    octaves = torch.log2(1 + torch.arange(len(spectrum)) / len(spectrum) * 255) / 8
    grid = torch.stack([octaves * 2 - 1, torch.zeros_like(octaves)], -1)[None, None]
    curve = torch.nn.functional.grid_sample(points[:, :, None], grid, align_corners=True)[0, 0, 0]
    equalised: Tensor = torch.fft.irfft(spectrum * 10 ** (curve / 20), n=size)
    return equalised[: len(audio)]


def place_in_room(audio: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
    """The audio in a random room: direct sound, then decaying noise (Polack 1988)."""
    seconds = rng.uniform(*_REVERBERATION)
    length = round(seconds * sample_rate)
    decay = np.exp(-6.9 * np.arange(length) / length)
    tail = rng.standard_normal(length) * decay
    tail[: round(rng.uniform(0.002, 0.02) * sample_rate)] = 0
    # Energy of the reverberation, relative to the direct sound.
    tail *= 10 ** (rng.uniform(-12, 3) / 20) / max(float(np.sqrt((tail**2).sum())), 1e-9)
    tail[0] += 1
    size = _fast(len(audio) + length)
    response = torch.fft.rfft(torch.from_numpy(tail).float(), n=size)
    reverberant: Tensor = torch.fft.irfft(torch.fft.rfft(audio, n=size) * response, n=size)
    return reverberant[: len(audio)]


def put_behind(audio: Tensor, background: Tensor, snr: float) -> Tensor:
    """The audio with a background as long, `snr` decibels softer; alone where either is silence."""
    voice, other = (float(x.square().mean().sqrt()) for x in (audio, background))
    if voice < 1e-4 or other < 1e-6:
        return audio
    return audio + background * (voice / other * 10 ** (-snr / 20))


def noise(length: int, rng: np.random.Generator) -> Tensor:
    """Stationary noise between white and brown, (length,)."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    slope = np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 1)
    return torch.from_numpy(np.fft.irfft(spectrum * slope, n=length)).float()


def _fast(samples: int) -> int:
    """The next length that transforms fast: lengths with large prime factors take several times as long."""
    return -(-samples // 4096) * 4096

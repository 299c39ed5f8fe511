"""Clips with noise, music or other voices behind them: what people really record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fsqcodec.errors import MediaError
from fsqcodec.media.audio import AudioReader
from numpy.typing import NDArray

from ..data.augment import noise, put_behind


def mix(clip: Path, behind: Sequence[Path], snr: float, number: int) -> tuple[NDArray[np.float32], int]:
    """Samples float32 (1, n) of a clip, its channels averaged, with something behind it, and their rate in
    Hz.

    Args:
        clip: the voice.
        behind: files of which clip number `number` gets one, from a random moment on and over again if it is
            short; none for stationary noise between white and brown.
        snr: decibels of the clip's power above that of what is behind it.
        number: of the clip, and the seed.

    Raises:
        MediaError: a file cannot be read, or what is behind is empty.
    """
    rng = np.random.default_rng(number)
    with AudioReader(clip) as reader:
        rate, voice = reader.facts.sample_rate, torch.from_numpy(reader.read().mean(0))
    if behind:
        file = behind[number % len(behind)]
        with AudioReader(file, rate) as reader:
            other = reader.read().mean(0)
        if not len(other):
            raise MediaError(f"{file}: holds no sound; give others with --behind")
        background = torch.from_numpy(np.resize(np.roll(other, -int(rng.integers(len(other)))), len(voice)))
    else:
        background = noise(len(voice), rng)
    mixed = put_behind(voice, background, snr)
    mixed = mixed / mixed.abs().max().clamp(min=1.0)
    return mixed[None].numpy(), rate

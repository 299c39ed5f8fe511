"""Training crops: crop number i depends on the seed and on i alone.

So a run resumes exactly where it stopped, and any number of processes and workers draw the same crops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as AF
from fsqcodec.errors import ConfigError, FSQCodecError
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..config.audio import DataConfig
from ..config.base import Source
from ..task import Notify
from .augment import SNR, equalise, noise, place_in_room, put_behind
from .cache import cached_samples
from .manifest import list_items

# Pitch and tempo together, as resampling by small ratios: -3 … +3 semitones.
_PITCH_RATIOS = [(6, 5), (9, 8), (16, 15), (15, 16), (8, 9), (5, 6)]
_APART, _LONGEST = 25, 3
"""Latent frames to a gap in crops that lose packets, and the most packets of two frames lost in a row."""


class Crops(Dataset[dict[str, Tensor]]):
    """Random augmented crops; item i is `{"audio": float32 (samples,), "stages": int64 ()}`.

    Where packets get lost (`config.lost`), also `"frames"`, int64 (samples // frame,): the latent frame that
    the decoder sees in place of each, as in live streams.

    Args:
        config: sources and augmentation.
        sample_rate: Hz of the model.
        samples: length of a crop.
        stages: stages of the quantizer; `dropout` of the crops ask for fewer of them.
        seed: of everything random here.
        notify: called with a line about each file that cannot be read (it is left out).
        frame: samples of a latent frame.
    """

    def __init__(
        self,
        config: DataConfig,
        sample_rate: int,
        samples: int,
        stages: int,
        dropout: float,
        seed: int,
        notify: Notify = print,
        frame: int = 480,
    ) -> None:
        self.config, self.sample_rate, self.samples, self.frame = config, sample_rate, samples, frame
        self.stages, self.dropout, self.seed = stages, dropout, seed
        self.clips: list[NDArray[np.int16]] = []
        weights: list[float] = []
        for source in config.sources:
            for clip in self._open(source, notify):
                self.clips.append(clip)
                weights.append(source.weight * len(clip))
        if not self.clips:
            raise ConfigError("none of the training sources could be read")
        self.backgrounds = [clip for source in config.backgrounds for clip in self._open(source, notify)]
        self.chances = np.cumsum(weights) / sum(weights)
        self.seconds = sum(map(len, self.clips)) / sample_rate

    def _open(self, source: Source, notify: Notify) -> Iterator[NDArray[np.int16]]:
        for item in list_items(source.path, source.match, source.exclude):
            try:
                yield cached_samples(item, self.sample_rate, Path(self.config.cache))
            except FSQCodecError as error:
                notify(f"left out: {error}")

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        clip = self.clips[min(int(np.searchsorted(self.chances, rng.random())), len(self.clips) - 1)]
        ratio = (
            _PITCH_RATIOS[rng.integers(len(_PITCH_RATIOS))] if rng.random() < self.config.pitch else (1, 1)
        )
        length = self.samples * ratio[0] // ratio[1] + ratio[0]
        start = int(rng.integers(max(1, len(clip) - length)))
        audio = torch.from_numpy(clip[start : start + length].astype(np.float32) / 32768)
        if ratio != (1, 1):
            audio = AF.resample(audio, ratio[0], ratio[1], lowpass_filter_width=16)
        audio = torch.nn.functional.pad(audio[: self.samples], (0, max(0, self.samples - len(audio))))
        if rng.random() < self.config.eq:
            audio = equalise(audio, rng)
        if rng.random() < self.config.room:
            audio = place_in_room(audio, self.sample_rate, rng)
        if rng.random() < self.config.background:
            audio = put_behind(audio, self._background(rng), rng.uniform(*SNR))
        audio = audio * 10 ** (rng.uniform(*self.config.gain_db) / 20)
        audio = audio / audio.abs().max().clamp(min=1.0)
        few = math.ceil(self.stages * (1 - rng.random()))
        stages = few if rng.random() < self.dropout else self.stages
        item = {"audio": audio, "stages": torch.tensor(stages)}
        if self.config.lost:
            count = self.samples // self.frame
            lossy = rng.random() < self.config.lost
            item["frames"] = torch.from_numpy(with_gaps(count, rng) if lossy else np.arange(count))
        return item

    def _background(self, rng: np.random.Generator) -> Tensor:
        """A piece of one of the backgrounds, or noise: half of the time, and where there are none."""
        if not self.backgrounds or rng.random() < 0.5:
            return noise(self.samples, rng)
        clip = self.backgrounds[rng.integers(len(self.backgrounds))]
        start = int(rng.integers(max(1, len(clip) - self.samples)))
        piece = torch.from_numpy(clip[start : start + self.samples].astype(np.float32) / 32768)
        return torch.nn.functional.pad(piece, (0, self.samples - len(piece)))


def with_gaps(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which latent frames a decoder sees in place of each of `count`, int64 (count,), when packets get lost.

    A gap is gone through with what was there before it, backwards, as a live decoder does.
    """
    frames = np.arange(count)
    for start in np.sort(rng.integers(1, count, count // _APART)):
        length = min(2 * int(rng.integers(1, _LONGEST + 1)), start, count - start)
        frames[start : start + length] = frames[start - length : start][::-1]
    return frames

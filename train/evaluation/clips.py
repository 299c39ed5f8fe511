"""What is measured: clips of sound, pictures and videos, and what codecs make of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from fsqcodec.media.audio import AudioReader
from fsqcodec.media.video_reader import FrameReader, has_pictures
from numpy.typing import NDArray

KINDS = ("sound", "picture", "video")


Data = NDArray[np.float32] | NDArray[np.uint8]
"""Samples float32 (n,) of mono sound, or frames RGB uint8 (T, H, W, 3)."""


@dataclass(frozen=True)
class Original:
    """One clip."""

    kind: str
    """`sound`, `picture` or `video`."""
    data: Data
    rate: Fraction
    """Samples or frames a second."""

    @property
    def amount(self) -> float:
        """Seconds of sound or video, or millions of pixels of a picture."""
        return self.units / 1e6 if self.kind == "picture" else len(self.data) / float(self.rate)

    @property
    def units(self) -> float:
        """What bits are counted a unit of: thousands of seconds (kbit/s), or pixels of a picture (bpp)."""
        return float(np.prod(self.data.shape[:3])) if self.kind == "picture" else self.amount * 1000


@dataclass(frozen=True)
class Decoded:
    """What comes back of a clip."""

    data: Data
    """As `Original.data`; sound may be shifted by a codec's delay."""
    bytes: int
    encode_seconds: float
    decode_seconds: float
    memory_mb: float | None = None
    """By how much the process grew at its peak; None where the system does not say."""


def read_original(path: str | Path, most_frames: int = 64) -> Original:
    """The first channels' mean of a sound, a picture, or the first frames of a video.

    Raises:
        MediaError: the file cannot be read.
    """
    if has_pictures(path):
        with FrameReader(path) as reader:
            frames = []
            for frame in reader:
                frames.append(frame.picture)
                if len(frames) == most_frames:
                    break
            kind = "picture" if reader.facts.still else "video"
            return Original(kind, np.stack(frames), reader.facts.frame_rate)
    with AudioReader(path) as sound:
        samples = sound.read().mean(axis=0).astype(np.float32)
        return Original("sound", samples, Fraction(sound.facts.sample_rate))

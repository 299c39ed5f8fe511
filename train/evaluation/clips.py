"""Originals that are judged: a clip of sound, a picture, or the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from fsqcodec.media.audio import AudioReader
from fsqcodec.media.video_reader import FrameReader, has_pictures
from numpy.typing import NDArray

KINDS = ("sound", "picture", "video")


@dataclass(frozen=True)
class Original:
    """One clip."""

    kind: str
    """`sound`, `picture` or `video`."""
    data: NDArray[np.float32] | NDArray[np.uint8]
    """Samples float32 (n,) of mono sound, or frames RGB uint8 (T, H, W, 3)."""
    rate: Fraction
    """Samples or frames a second."""

    @property
    def units(self) -> float:
        """What bits are counted a unit of: thousands of seconds of sound and video (kbit/s), picture elements (bpp)."""
        if self.kind == "sound":
            return float(len(self.data) / self.rate) * 1000
        return float(np.prod(self.data.shape[:3]))


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

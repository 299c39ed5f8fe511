"""Audio files in and out: PyAV reads everything FFmpeg knows, soundfile and PyAV write.

Reading streams: samples arrive in blocks, so memory does not grow with the length of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from .errors import MediaError

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AudioFacts:
    """What must be given back after decoding."""

    sample_rate: int
    """Hz."""
    channels: int
    tags: dict[str, str] = field(default_factory=dict)
    """Title, artist, … as the file names them, lower-case keys."""


class AudioReader:
    """The first audio stream of a media file, as float32 samples.

    Args:
        source: a path, or an open binary file (a pipe will do).
        sample_rate: Hz to convert to; the file's own when None.

    Raises:
        MediaError: the file cannot be opened, or has no audio.
    """

    def __init__(self, source: str | Path | IO[bytes], sample_rate: int | None = None) -> None:
        self.name = str(source) if isinstance(source, str | Path) else "standard input"
        try:
            self._container = av.open(str(source) if isinstance(source, Path) else source, metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: cannot be read as a media file ({_reason(error)})") from None
        if not self._container.streams.audio:
            self._container.close()
            raise MediaError(f"{self.name}: has no audio stream")
        self._stream = self._container.streams.audio[0]
        self._stream.thread_type = "NONE" if self._stream.codec_context.name == "opus" else "AUTO"
        tags = {**self._container.metadata, **self._stream.metadata}
        keep = {k.lower(): v for k, v in tags.items() if k.lower() not in _TECHNICAL_TAGS}
        self.facts = AudioFacts(self._stream.rate, self._stream.channels, keep)
        self.duration = self._container.duration / av.time_base if self._container.duration else None
        """Seconds as the container states them, None when unknown; for progress only."""
        self.samples_in = 0
        """Samples a channel read so far, at the file's own rate."""
        self._resampler = AudioResampler("fltp", self._stream.layout, sample_rate or self._stream.rate)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of samples float32 (channels, n) at the asked rate.

        Raises:
            MediaError: the data are damaged.
        """
        try:
            for frame in self._container.decode(self._stream):
                self.samples_in += frame.samples
                yield from map(_to_array, self._resampler.resample(frame))
            yield from map(_to_array, self._resampler.resample(None))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{self.name}: damaged {self.samples_in / self.facts.sample_rate:.2f} s after its start ({_reason(error)})"
            ) from None

    def read(self) -> Samples:
        """All samples, float32 (channels, n)."""
        blocks = list(self)
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((self.facts.channels, 0), np.float32)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_TECHNICAL_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "creation_time", "handler_name",
                   "vendor_id", "language"}  # fmt: skip


def _to_array(frame: AudioFrame) -> Samples:
    return frame.to_ndarray()


def _reason(error: Any) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")

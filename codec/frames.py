"""Pictures and video in: PyAV reads everything FFmpeg knows, as RGB frames with their exact times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .errors import MediaError
from .media import TECHNICAL_TAGS, reason

Picture = NDArray[np.uint8]
"""RGB, (H, W, 3)."""

MAX_SIDE = 1 << 14
_STILL_FORMATS = ("image2", "_pipe", "gif")


@dataclass(frozen=True)
class VideoFacts:
    """What must be given back after decoding."""

    width: int
    height: int
    time_base: Fraction
    """Seconds of a tick; frame times count in ticks."""
    frame_rate: Fraction
    """Average frames a second."""
    full_range: bool = False
    matrix: int = 2
    """Colour matrix of the original as in ITU-T H.273 (1 BT.709, 5 BT.601; 2 unknown)."""
    rotation: int = 0
    """Degrees, counter-clockwise, that a player turns the frames by."""
    still: bool = False
    """A picture, not a video."""
    grey: bool = False
    tags: dict[str, str] = field(default_factory=dict)


class FrameReader:
    """The first video stream, or the picture, of a media file.

    Args:
        source: a path, or an open binary file (a pipe will do).
        name: what errors call it.

    Raises:
        MediaError: the file cannot be opened, has no pictures, or is larger than 16384 across or down.
    """

    def __init__(self, source: str | Path | IO[bytes], name: str | None = None) -> None:
        self.name = name or (str(source) if isinstance(source, str | Path) else "input")
        try:
            place = str(source) if isinstance(source, Path) else source
            self._container = cast(InputContainer, av.open(place, metadata_errors="ignore"))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: cannot be read as a media file ({reason(error)})") from None
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(f"{self.name}: has no pictures")
        stream = self._stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        if not 0 < stream.width <= MAX_SIDE or not 0 < stream.height <= MAX_SIDE:
            self._container.close()
            raise MediaError(
                f"{self.name}: {stream.width}×{stream.height} is beyond {MAX_SIDE} across or down"
            )
        still = any(mark in self._container.format.name for mark in _STILL_FORMATS) and stream.frames <= 1
        context = stream.codec_context
        tags = {**self._container.metadata, **stream.metadata}
        self.deep = any(c.bits > 8 for c in context.format.components) if context.format else False
        """More than 8 bits a sample, which are converted to 8."""
        self.alpha = bool(context.format and context.format.name in _ALPHA)
        self.facts = VideoFacts(
            stream.width, stream.height, stream.time_base or Fraction(1, 1000),
            stream.average_rate or Fraction(25), int(context.color_range or 0) == 2,
            int(context.colorspace if context.colorspace is not None else 2), _rotation(stream), still,
            bool(context.format and context.format.name.startswith("gray")),
            {k.lower(): v for k, v in tags.items() if k.lower() not in TECHNICAL_TAGS},
        )  # fmt: skip
        self.duration = float(self._container.duration / av.time_base) if self._container.duration else None
        """Seconds as the container states them, None when unknown; for progress only."""
        self.frames = stream.frames
        """Frames as the container states them, 0 when unknown."""

    def __iter__(self) -> Iterator[tuple[Picture, int]]:
        """Frames in order of time, each with its time in ticks.

        Raises:
            MediaError: the data are damaged.
        """
        count, last = 0, None
        step = max(1, round(1 / (self.facts.frame_rate * self.facts.time_base)))
        try:
            for frame in self._container.decode(self._stream):
                time = frame.pts if frame.pts is not None else (0 if last is None else last + step)
                if last is not None and time <= last:
                    time = last + 1
                last, count = time, count + 1
                yield self._to_array(frame), time
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: damaged after {count} frames ({reason(error)})") from None

    def _to_array(self, frame: VideoFrame) -> Picture:
        if (frame.width, frame.height) != (self.facts.width, self.facts.height):
            frame = frame.reformat(width=self.facts.width, height=self.facts.height)
        return cast(Picture, frame.to_ndarray(format="rgb24"))

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_ALPHA = {
    "rgba",
    "bgra",
    "argb",
    "abgr",
    "ya8",
    "ya16be",
    "ya16le",
    "yuva420p",
    "yuva444p",
    "rgba64be",
    "rgba64le",
    "gbrap",
}


def _rotation(stream: Any) -> int:
    for text in (stream.metadata.get("rotate", ""),):
        if text.lstrip("-").isdigit():
            return int(text) % 360
    return 0

"""Pictures and video in: PyAV reads everything FFmpeg knows, as RGB frames with their exact times."""

from __future__ import annotations

import itertools
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

from ..errors import MediaError
from .audio import TECHNICAL_TAGS, reason, start_of
from .color import UNSAID, Colours, to_rgb
from .image import MAX_PIXELS, MAX_SIDE

Picture = NDArray[np.uint8]
"""RGB, (H, W, 3)."""

Plane = NDArray[np.uint8]
"""One channel, (H, W)."""
_SLIP = 0.5
"""Seconds by which times may go back within one clock: frames that come out of order."""
_STILL_FORMATS = ("image2", "_pipe", "gif")


@dataclass(frozen=True)
class Frame:
    """A picture of a video and when it is shown."""

    picture: Picture
    time: int = 0
    """Ticks."""
    alpha: Plane | None = None
    """Opacity; opaque when None."""


@dataclass(frozen=True)
class VideoFacts:
    """What must be given back after decoding."""

    width: int
    height: int
    time_base: Fraction
    """Seconds of a tick; frame times count in ticks."""
    frame_rate: Fraction
    """Average frames a second."""
    still: bool = False
    """A picture, not a video."""
    grey: bool = False
    transparent: bool = False
    colours: Colours = UNSAID
    tags: dict[str, str] = field(default_factory=dict)


class FrameReader:
    """The first video stream, or the picture, of a media file.

    Args:
        source: a path, or an open binary file (a pipe will do).
        name: what errors call it.

    Frames are turned as the file says a player should turn them. Samples of more than 8 bits are converted.

    Raises:
        MediaError: the file cannot be opened, has no pictures, or is larger than 16384 across or down or than
            64 million picture elements.
    """

    def __init__(self, source: str | Path | IO[bytes], name: str | None = None) -> None:
        self.name = name or (str(source) if isinstance(source, str | Path) else "input")
        try:
            place = str(source) if isinstance(source, Path) else source
            self._container = cast(InputContainer, av.open(place, metadata_errors="ignore"))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: cannot be read as a media file ({reason(error)})") from None
        streams = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        if not streams:
            self._container.close()
            raise MediaError(f"{self.name}: has no pictures; give a picture or a video")
        stream = self._stream = streams[0]
        stream.thread_type = "AUTO"
        if not 0 < max(stream.width, stream.height) <= MAX_SIDE or stream.width * stream.height > MAX_PIXELS:
            self._container.close()
            raise MediaError(
                f"{self.name}: {stream.width}×{stream.height} is too large; at most {MAX_SIDE} across or down"
            )
        context = stream.codec_context
        kind = context.format
        tags = {**self._container.metadata, **stream.metadata}
        self.deep = kind is not None and any(component.bits > 8 for component in kind.components)
        """More than 8 bits a sample, which are converted to 8."""
        self._frames = self._read()
        self._ahead = list(itertools.islice(self._frames, 2))
        if not self._ahead:
            self._container.close()
            raise MediaError(f"{self.name}: has no pictures; give a picture or a video")
        # A GIF may be either; the other formats tell by their number of frames too.
        pictures = any(mark in self._container.format.name for mark in _STILL_FORMATS)
        still = pictures and len(self._ahead) == 1
        first = self._ahead[0]
        height, width = first.picture.shape[:2]
        self.facts = VideoFacts(
            width,
            height,
            stream.time_base or Fraction(1, 1000),
            stream.average_rate or Fraction(25),
            still,
            kind is not None and kind.name.startswith("gray"),
            first.alpha is not None,
            UNSAID if still else Colours.of(context),
            {k.lower(): v for k, v in tags.items() if k.lower() not in TECHNICAL_TAGS},
        )
        self.duration = float(self._container.duration / av.time_base) if self._container.duration else None
        """Seconds as the container states them, None when unknown; for progress only."""
        self.frames = stream.frames
        """Frames as the container states them, 0 when unknown."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order of time.

        Raises:
            MediaError: the data are damaged.
        """
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._frames

    def _read(self) -> Iterator[Frame]:
        count, last, size = 0, None, None
        stream = self._stream
        step = max(1, round(1 / ((stream.average_rate or 25) * (stream.time_base or Fraction(1, 1000)))))
        tick = stream.time_base or Fraction(1, 1000)
        shift, longest_slip = -round(start_of(self._container) / tick), round(_SLIP / tick)
        turns = 0
        try:
            for frame in self._container.decode(stream):
                time = frame.pts + shift if frame.pts is not None else (0 if last is None else last + step)
                if (
                    last is not None and time < last - longest_slip
                ):  # a splice: another clock goes on from here
                    shift += last + step - time
                    time = last + step
                elif last is not None and time <= last:
                    time = last + 1
                if size is None:
                    size, turns = (frame.width, frame.height), round(frame.rotation / 90) % 4
                elif (frame.width, frame.height) != size:
                    frame = frame.reformat(width=size[0], height=size[1])
                last, count = time, count + 1
                yield _to_frame(frame, time, turns)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: damaged after {count} frames ({reason(error)})") from None

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
    "pal8",
}


def _to_frame(frame: VideoFrame, time: int, turns: int) -> Frame:
    """A frame as RGB, turned by quarters counter-clockwise; alpha only where something is transparent."""
    if frame.format.name in _ALPHA:
        whole = np.rot90(to_rgb(frame, "rgba"), turns)
        alpha = np.ascontiguousarray(whole[..., 3])
        return Frame(np.ascontiguousarray(whole[..., :3]), time, alpha if (alpha < 255).any() else None)
    return Frame(np.ascontiguousarray(np.rot90(to_rgb(frame), turns)), time)


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the cover picture of a sound file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def has_pictures(source: str | Path) -> bool:
    """Whether a media file holds pictures or video, beyond a cover picture; False where it cannot be read."""
    try:
        with av.open(str(source), metadata_errors="ignore") as container:
            return any(not _is_cover(stream) for stream in container.streams.video)
    except (av.error.FFmpegError, OSError, ValueError):
        return False

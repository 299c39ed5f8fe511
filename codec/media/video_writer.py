"""Video files out: frames with their exact times, and sound beside them, by FFmpeg's coders through PyAV."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import IO, Any, cast

import av
import numpy as np
from av.packet import Packet as MediaPacket
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..errors import MediaError
from .audio import AudioFacts, AudioTrack, Samples, open_output, reason
from .color import UNSAID, Colours, from_rgb

CARRIERS = {
    ".mp4": ("mp4", "libx264", "yuv420p", "aac"),
    ".mov": ("mov", "libx264", "yuv420p", "aac"),
    ".m4v": ("mp4", "libx264", "yuv420p", "aac"),
    ".mkv": ("matroska", "ffv1", "yuv420p", "flac"),
    ".avi": ("avi", "mjpeg", "yuvj420p", "libmp3lame"),
    ".y4m": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p", ""),
    ".gif": ("gif", "gif", "rgb8", ""),
}
"""Container, coder of pictures, their pixel format and coder of sound of each extension. ffv1 loses nothing."""
_CONSTANT = frozenset({".avi", ".y4m"})
"""Formats whose frames have no times of their own: one after the other, at one rate."""
_OPTIONS = {"libx264": {"crf": "12", "preset": "veryfast"}, "ffv1": {"level": "3"}}


class MovieWriter:
    """Writes frames RGB uint8 (H, W, 3), and sound if there is any.

    Args:
        target: a binary file; `suffix` says what is written into it.
        suffix: extension such as `.mp4`, a key of `CARRIERS`.
        width: of the frames.
        height: of the frames.
        tick: seconds of the unit that times count in.
        frame_rate: frames a second, on average.
        tags: title, …
        colours: matrix and range of what is written, where the format has a choice.
        audio: facts of sound to be coded; None for none.
        carried: description of sound that is carried as it was (`fsqcodec.media.passthrough`); None for none.

    Raises:
        MediaError: the extension is unknown, or the format cannot take these frames.
    """

    def __init__(
        self,
        target: IO[bytes],
        suffix: str,
        width: int,
        height: int,
        tick: Fraction,
        frame_rate: Fraction,
        tags: dict[str, str],
        colours: Colours = UNSAID,
        audio: AudioFacts | None = None,
        carried: dict[str, Any] | None = None,
    ) -> None:
        if suffix not in CARRIERS:
            raise MediaError(
                f"{suffix or 'no extension'}: no video format that can be written; use one of {', '.join(CARRIERS)}"
            )
        container, codec, self._format, sound = CARRIERS[suffix]
        if width % 2 or height % 2:  # chroma at half the resolution needs even sides
            self._format = {"yuv420p": "yuv444p", "yuvj420p": "yuvj444p"}.get(self._format, self._format)
        self._suffix, self._tick = suffix, tick
        rate = frame_rate.limit_denominator(60000)
        self._rate = rate if suffix in _CONSTANT else None
        self._origin: int | None = None
        """Time of the first frame, where frames come at one rate."""
        self._count, self._last = 0, np.zeros((0, 0, 3), np.uint8)
        self.repeated = self.dropped = 0
        """Frames that came twice, or not at all, because the format has one frame rate."""
        try:
            options = {"video_track_timescale": str(tick.denominator)} if container in ("mp4", "mov") else {}
            self._container = open_output(target, container, options)
            self._container.metadata.update(tags)
            self._stream = cast(
                VideoStream, self._container.add_stream(codec, rate=rate, options=_OPTIONS.get(codec, {}))
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._format
            # Motion-JPEG has one way only.
            self._colours = Colours(full=True) if self._format.startswith("yuvj") else colours
            self._colours.tag(self._stream.codec_context)
            self._stream.time_base = self._stream.codec_context.time_base = 1 / rate if self._rate else tick
            self.track = AudioTrack(self._container, sound, audio) if audio and sound else None
            self._sound = self._add_carried(carried) if carried and sound else None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{suffix}: cannot hold these frames ({reason(error)}); use .mkv") from None

    def _add_carried(self, facts: dict[str, Any]) -> Any:
        with av.open(io.BytesIO(bytes.fromhex(facts["sample"]))) as sample:
            stream = self._container.add_stream_from_template(sample.streams.audio[0])
        stream.time_base = self._carried_tick = Fraction(*facts["tick"])
        return stream

    def write(self, picture: NDArray[np.uint8], time: int) -> None:
        """Append a frame to be shown at `time` ticks; where the format has one frame rate, at the nearest of its times."""
        if self._rate is None:
            self._encode(picture, time, self._tick)
            return
        self._origin = time if self._origin is None else self._origin
        slot = round((time - self._origin) * self._tick * self._rate)
        if slot < self._count:
            self.dropped += 1
            return
        self.repeated += slot - self._count
        while self._count < slot:
            self._append(self._last)
        self._append(picture)
        self._last = picture

    def _append(self, picture: NDArray[np.uint8]) -> None:
        assert self._rate
        self._encode(picture, self._count, 1 / self._rate)
        self._count += 1

    def _encode(self, picture: NDArray[np.uint8], time: int, tick: Fraction) -> None:
        frame = from_rgb(picture, self._format, self._colours)
        frame.pts, frame.time_base = time, tick
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self._suffix}: writing failed ({reason(error)})") from None

    def write_sound(self, block: Samples) -> None:
        """Append samples float32 (channels, n)."""
        if self.track:
            self.track.write(block)

    def carry(self, data: bytes, time: int, duration: int) -> None:
        """Append a packet of sound as it was."""
        if self._sound is None:
            return
        packet = MediaPacket(data)
        packet.stream, packet.pts, packet.dts = self._sound, time, time
        packet.duration, packet.time_base = duration, self._carried_tick
        self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        try:
            self._container.mux(self._stream.encode(None))
            if self.track:
                self.track.close()
            self._container.close()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self._suffix}: writing failed ({reason(error)})") from None

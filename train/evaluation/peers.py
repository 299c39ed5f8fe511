"""Codecs that people use, through libraries that pip brings: FFmpeg in PyAV, and Pillow."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, TypeVar, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from fsqcodec.errors import ConfigError
from fsqcodec.media.audio import AudioReader, Resampler
from fsqcodec.media.color import Colours, from_rgb, to_rgb
from numpy.typing import NDArray

from .clips import Decoded, Original

T = TypeVar("T")


class Peer(Protocol):
    """A codec for one kind of media."""

    @property
    def ladder(self) -> tuple[float, ...]:
        """Settings that it is measured at when none are given."""

    def available(self) -> bool:
        """Whether this machine has it."""

    def round_trip(self, original: Original, setting: float) -> Decoded:
        """A clip through it; only the coded packets count, not the container.

        Raises:
            ConfigError: this machine does not have it.
        """


@dataclass(frozen=True)
class SoundPeer:
    """A coder of FFmpeg for mono sound; settings are kbit/s."""

    coder: str
    container: str
    sample_rate: int
    """Hz that it codes."""
    ladder: tuple[float, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def available(self) -> bool:
        """See `Peer`."""
        return _has(self.coder)

    def round_trip(self, original: Original, setting: float) -> Decoded:
        """See `Peer`."""
        _check(self)
        own = int(original.rate)
        resampler = Resampler(1, own, self.sample_rate)
        samples = cast(NDArray[np.float32], original.data)[None]
        block = np.concatenate([resampler.push(samples), resampler.flush()], axis=1)
        file = io.BytesIO()
        size, encode_seconds = timed(lambda: self._encode(block, file, setting))
        file.seek(0)

        def decode() -> NDArray[np.float32]:
            with AudioReader(file, own) as reader:
                channel: NDArray[np.float32] = reader.read()[0]
                return channel

        decoded, decode_seconds = timed(decode)
        return Decoded(decoded, size, encode_seconds, decode_seconds)

    def _encode(self, block: NDArray[np.float32], file: io.BytesIO, kbps: float) -> int:
        """Write samples (1, n); returns the bytes of the packets."""
        total, rate = 0, self.sample_rate
        with av.open(file, "w", format=self.container) as out:
            stream: Any = out.add_stream(
                self.coder, rate=rate, layout="mono", bit_rate=int(kbps * 1000), options=dict(self.options)
            )
            context = stream.codec_context
            context.open()
            convert = av.AudioResampler(context.format, "mono", rate, frame_size=context.frame_size or 1024)
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for piece in [*convert.resample(frame), *convert.resample(None), None]:
                for packet in stream.encode(piece):
                    total += packet.size
                    out.mux(packet)
        return total


@dataclass(frozen=True)
class PicturePeer:
    """A format of Pillow; settings are its qualities."""

    format: str
    ladder: tuple[float, ...]
    options: Mapping[str, Any]

    def available(self) -> bool:
        """See `Peer`."""
        from PIL import features

        return self.format != "AVIF" or bool(features.check("avif"))

    def round_trip(self, original: Original, setting: float) -> Decoded:
        """See `Peer`."""
        from PIL import Image

        picture = Image.fromarray(cast(NDArray[np.uint8], original.data)[0])
        file = io.BytesIO()
        _, encode_seconds = timed(
            lambda: picture.save(file, self.format, quality=int(setting), **self.options)
        )
        decoded, decode_seconds = timed(lambda: np.asarray(Image.open(file).convert("RGB")))
        return Decoded(decoded[None], len(file.getvalue()), encode_seconds, decode_seconds)


@dataclass(frozen=True)
class VideoPeer:
    """A coder of FFmpeg for video; settings are constant rate factors, or quantizer scales."""

    coder: str
    ladder: tuple[float, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    by_scale: bool = False
    """Whether a setting is a quantizer scale."""

    def available(self) -> bool:
        """See `Peer`."""
        return _has(self.coder)

    def round_trip(self, original: Original, setting: float) -> Decoded:
        """See `Peer`."""
        _check(self)
        frames = cast(NDArray[np.uint8], original.data)
        height, width = frames.shape[1:3]
        even = frames[:, : height // 2 * 2, : width // 2 * 2]
        file = io.BytesIO()
        size, encode_seconds = timed(lambda: self._encode(even, original.rate, file, int(setting)))
        file.seek(0)

        def decode() -> NDArray[np.uint8]:
            with cast(InputContainer, av.open(file)) as source:
                return np.stack([to_rgb(frame) for frame in source.decode(video=0)])

        decoded, decode_seconds = timed(decode)
        margins = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
        return Decoded(np.pad(decoded, margins, mode="edge"), size, encode_seconds, decode_seconds)

    def _encode(self, frames: NDArray[np.uint8], rate: Fraction, file: io.BytesIO, setting: int) -> int:
        """Write frames (T, H, W, 3); returns the bytes of the packets."""
        total, full = 0, self.coder == "mjpeg"
        with av.open(file, "w", format="matroska") as out:
            options = dict(self.options)
            stream: Any = out.add_stream(self.coder, rate=rate.limit_denominator(60000), options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuvj420p" if full else "yuv420p"
            if self.by_scale:
                context = stream.codec_context
                context.qmin = context.qmax = setting
                context.bit_rate = 1 << 30
            else:
                stream.options = {**options, "crf": str(setting)}
            for picture in frames:
                for packet in stream.encode(from_rgb(picture, stream.pix_fmt, Colours(full=full))):
                    total += packet.size
                    out.mux(packet)
            for packet in stream.encode(None):
                total += packet.size
                out.mux(packet)
        return total


_CRF = (20.0, 25.0, 30.0, 35.0, 40.0)

PEERS: dict[str, dict[str, Peer]] = {
    "sound": {
        "opus": SoundPeer("libopus", "ogg", 48000, (6, 8, 10, 12, 16, 24), {"application": "voip"}),
        "mp3": SoundPeer("libmp3lame", "mp3", 24000, (16, 24, 32, 48)),
        "aac": SoundPeer("aac", "adts", 24000, (12, 16, 24, 32)),
        "vorbis": SoundPeer("libvorbis", "ogg", 24000, (16, 24, 32)),
        "speex": SoundPeer("libspeex", "ogg", 16000, (4, 8, 16)),
        "codec2": SoundPeer("libcodec2", "matroska", 8000, (1.2, 3.2)),
    },
    "picture": {
        "jpeg": PicturePeer("JPEG", (10, 20, 35, 50, 70, 85, 92), {"optimize": True, "subsampling": "4:2:0"}),
        "webp": PicturePeer("WEBP", (5, 20, 40, 60, 80, 92), {"method": 6}),
        "avif": PicturePeer("AVIF", (20, 35, 50, 65, 80, 90), {"speed": 4}),
    },
    "video": {
        "x264": VideoPeer("libx264", _CRF, {"preset": "medium", "g": "32"}),
        "x264-fast": VideoPeer("libx264", _CRF, {"preset": "ultrafast", "tune": "zerolatency", "g": "32"}),
        "x265": VideoPeer("libx265", _CRF, {"preset": "medium", "x265-params": "log-level=none:keyint=32"}),
        "av1": VideoPeer("libsvtav1", (20, 30, 40, 50, 60), {"preset": "8", "g": "32"}),
        "mjpeg": VideoPeer("mjpeg", (2, 4, 8, 16, 31), by_scale=True),
    },
}
"""By kind of media and name."""


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work returns, and its seconds."""
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def _has(coder: str) -> bool:
    try:
        av.Codec(coder, "w")
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _check(peer: SoundPeer | VideoPeer) -> None:
    if not peer.available():
        raise ConfigError(f"this machine's FFmpeg has no {peer.coder}")

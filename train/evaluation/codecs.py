"""What is compared: our models through real files, and peers through libraries that pip brings.

A codec is named `NAME@SETTING`, such as `speech-24k@6`, `opus@12`, `jpeg@75`. Every round trip gives the decoded
clip and the bytes spent: of the whole file for ours, of the coded packets for peers in containers.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from fsqcodec.errors import ConfigError
from fsqcodec.media.audio import AudioReader, Resampler
from fsqcodec.media.color import Colours, from_rgb, to_rgb
from numpy.typing import NDArray

from .clips import Original

Data = NDArray[np.float32] | NDArray[np.uint8]


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


SOUND_PEERS = {
    "opus": ("libopus", "ogg", 48000, {"application": "voip"}), "mp3": ("libmp3lame", "mp3", 24000, {}),
    "aac": ("aac", "adts", 24000, {}), "vorbis": ("libvorbis", "ogg", 24000, {}),
    "speex": ("libspeex", "ogg", 16000, {}), "codec2": ("libcodec2", "matroska", 8000, {}),
}  # fmt: skip
"""FFmpeg's coder, container, sample rate and options."""
VIDEO_PEERS = {
    "x264": ("libx264", "crf", {"preset": "medium", "g": "32"}),
    "x264-fast": ("libx264", "crf", {"preset": "ultrafast", "tune": "zerolatency", "g": "32"}),
    "x265": ("libx265", "crf", {"preset": "medium", "x265-params": "log-level=none:keyint=32"}),
    "av1": ("libsvtav1", "crf", {"preset": "8", "g": "32"}),
    "mjpeg": ("mjpeg", "qscale", {}),
}  # fmt: skip
"""FFmpeg's coder, what a setting means to it, and options."""
PICTURE_PEERS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
LADDERS: dict[str, tuple[float, ...]] = {
    "opus": (6, 8, 10, 12, 16, 24), "mp3": (16, 24, 32, 48), "aac": (12, 16, 24, 32), "vorbis": (16, 24, 32),
    "speex": (4, 8, 16), "codec2": (1.2, 3.2), "jpeg": (10, 20, 35, 50, 70, 85, 92), "webp": (5, 20, 40, 60, 80, 92),
    "avif": (20, 35, 50, 65, 80, 90), "x264": (20, 25, 30, 35, 40), "x264-fast": (20, 25, 30, 35, 40),
    "x265": (20, 25, 30, 35, 40), "av1": (20, 30, 40, 50, 60), "mjpeg": (2, 4, 8, 16, 31),
}  # fmt: skip
"""Settings that a peer is measured at when none are given."""
SOUND_LADDER, PICTURE_LADDER = (1.5, 3.0, 6.0, 64.0), (1, 2, 3, 4, 5, 6, 7, 8)
"""kbit/s, and qualities, that our models are measured at."""


def peers_of(kind: str) -> list[str]:
    """Names of the peers for a kind of media that this machine has."""
    if kind == "sound":
        return [name for name, (coder, *_) in SOUND_PEERS.items() if _has(coder)]
    if kind == "video":
        return [name for name, (coder, *_) in VIDEO_PEERS.items() if _has(coder)]
    from PIL import features

    return [name for name in PICTURE_PEERS if name != "avif" or features.check("avif")]


def _has(coder: str) -> bool:
    try:
        av.Codec(coder, "w")
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def round_trip(original: Original, codec: str, setting: float) -> Decoded:
    """A clip through a codec.

    Raises:
        ConfigError: the codec is not for this kind of media, or this machine has none of that name.
    """
    with peak_memory() as grown:
        decoded = _round_trip(original, codec, setting)
    return replace(decoded, memory_mb=grown())


def _round_trip(original: Original, codec: str, setting: float) -> Decoded:
    kind = original.kind
    kinds: dict[str, Any] = {"sound": SOUND_PEERS, "picture": PICTURE_PEERS, "video": VIDEO_PEERS}
    if codec in kinds[kind]:
        peer = {"sound": _sound_peer, "picture": _picture_peer, "video": _video_peer}[kind]
        return peer(original, codec, setting)
    return (_our_sound if kind == "sound" else _our_pictures)(original, codec, setting)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float | None]]:
    """How far resident memory rose within the block, in MB, to ask for afterwards; None but on Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _status("VmRSS")
        yield lambda: _status("VmHWM") - before
    except OSError:
        yield lambda: None


def _status(field: str) -> float:
    """A field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024 / 1e6


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def model_and_effort(name: str) -> tuple[str, int | None]:
    """`NAME:16` is a model of sound at an effort of 16, `NAME` at what `fsqcodec encode` takes by itself."""
    model, _, effort = name.rpartition(":")
    return (model, int(effort)) if model and effort.isdecimal() else (name, None)


def _our_sound(original: Original, name: str, kbps: float) -> Decoded:
    model, effort = model_and_effort(name)
    codec, rate = _load(model), int(original.rate)
    samples = cast(NDArray[np.float32], original.data)
    data, coding = _timed(lambda: codec.to_bytes(codec.encode(samples, rate, kbps=kbps, effort=effort)))
    back, decoding = _timed(lambda: codec.decode(codec.from_bytes(data))[0])
    return Decoded(back, len(data), coding, decoding)


def _our_pictures(original: Original, model: str, quality: float) -> Decoded:
    from fsqcodec.bitstream.reader import Reader
    from fsqcodec.bitstream.writer import Writer
    from fsqcodec.media.video_reader import Frame

    codec = _load(model)
    frames = [Frame(cast(NDArray[np.uint8], picture), i) for i, picture in enumerate(original.data)]
    still = original.kind == "picture"

    def encode() -> bytes:
        file = io.BytesIO()
        header = codec.header(*original.data.shape[1:3], frames=len(frames), still=still, packet_frames=32)
        writer, done = Writer(file, header), 0
        for group in codec.groups(frames):
            writer.write(codec.encode_group(group, done, int(quality)))
            done += len(group)
        writer.finish()
        return file.getvalue()

    def decode() -> Data:
        reader = Reader(io.BytesIO(data))
        header = codec.check(reader)
        return np.stack([frame.picture for packet in reader for frame in codec.decode_group(packet, header)])

    data, coding = _timed(encode)
    back, decoding = _timed(decode)
    return Decoded(back, len(data), coding, decoding)


_models: dict[str, Any] = {}


def _load(model: str) -> Any:
    if model not in _models:
        import fsqcodec

        _models[model] = fsqcodec.load(model)
    return _models[model]


def _sound_peer(original: Original, name: str, kbps: float) -> Decoded:
    coder, container, rate, options = SOUND_PEERS[name]
    if not _has(coder):
        raise ConfigError(f"{name}: this machine's FFmpeg has no {coder}")
    samples, own = cast(NDArray[np.float32], original.data), int(original.rate)
    resampler = Resampler(1, own, rate)
    block = np.concatenate([resampler.push(samples[None]), resampler.flush()], axis=1)
    file, size = io.BytesIO(), 0

    def encode() -> int:
        total = 0
        with av.open(file, "w", format=container) as out:
            stream: Any = out.add_stream(
                coder, rate=rate, layout="mono", bit_rate=int(kbps * 1000), options=options
            )
            context = stream.codec_context
            context.open()
            step = context.frame_size or 1024
            convert = av.AudioResampler(context.format, "mono", rate, frame_size=step)
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for piece in [*convert.resample(frame), *convert.resample(None), None]:
                for packet in stream.encode(piece):
                    total += packet.size
                    out.mux(packet)
        return total

    size, coding = _timed(encode)
    file.seek(0)

    def decode() -> NDArray[np.float32]:
        with AudioReader(file, own) as reader:
            return reader.read()[0]

    back, decoding = _timed(decode)
    return Decoded(back, size, coding, decoding)


def _picture_peer(original: Original, name: str, quality: float) -> Decoded:
    from PIL import Image

    picture = Image.fromarray(cast(NDArray[np.uint8], original.data)[0])
    file = io.BytesIO()
    each: dict[str, dict[str, Any]] = {
        "jpeg": {"optimize": True, "subsampling": "4:2:0"},
        "webp": {"method": 6},
        "avif": {"speed": 4},
    }
    options = each[name]
    _, coding = _timed(lambda: picture.save(file, PICTURE_PEERS[name], quality=int(quality), **options))
    back, decoding = _timed(lambda: np.asarray(Image.open(file).convert("RGB")))
    return Decoded(back[None], len(file.getvalue()), coding, decoding)


def _video_peer(original: Original, name: str, setting: float) -> Decoded:
    coder, knob, options = VIDEO_PEERS[name]
    if not _has(coder):
        raise ConfigError(f"{name}: this machine's FFmpeg has no {coder}")
    frames = cast(NDArray[np.uint8], original.data)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    file = io.BytesIO()

    def encode() -> int:
        total = 0
        with av.open(file, "w", format="matroska") as out:
            stream: Any = out.add_stream(
                coder, rate=original.rate.limit_denominator(60000), options=dict(options)
            )
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if coder == "mjpeg" else "yuv420p"
            if knob == "crf":
                stream.options = {**options, "crf": str(int(setting))}
            else:
                context = stream.codec_context
                context.qmin = context.qmax = int(setting)
                context.bit_rate = 1 << 30
            for picture in frames:
                frame = from_rgb(picture[:height, :width], stream.pix_fmt, Colours(full=coder == "mjpeg"))
                for packet in stream.encode(frame):
                    total += packet.size
                    out.mux(packet)
            for packet in stream.encode(None):
                total += packet.size
                out.mux(packet)
        return total

    size, coding = _timed(encode)
    file.seek(0)

    def decode() -> NDArray[np.uint8]:
        with cast(InputContainer, av.open(file)) as source:
            return np.stack([to_rgb(frame) for frame in source.decode(video=0)])

    back, decoding = _timed(decode)
    padded = np.pad(
        back, ((0, 0), (0, frames.shape[1] - height), (0, frames.shape[2] - width), (0, 0)), mode="edge"
    )
    return Decoded(padded, size, coding, decoding)

"""Audio files in and out: PyAV reads everything FFmpeg knows, soundfile and PyAV write.

Reading streams: samples arrive in blocks, so memory does not grow with the length of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

from ..errors import MediaError

Samples = NDArray[np.float32]
SOUND = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".m4a",
        ".aac",
        ".ogg",
        ".oga",
        ".opus",
        ".wma",
        ".aif",
        ".aiff",
        ".caf",
        ".w64",
        ".au",
        ".mka",
        ".amr",
        ".wv",
        ".ape",
    }
)
"""Endings of sound that are taken from folders and shards; files that are named are always tried."""


@dataclass(frozen=True)
class AudioFacts:
    """What must be given back after decoding."""

    sample_rate: int
    """Hz."""
    channels: int
    tags: dict[str, str] = field(default_factory=dict)
    """Title, artist, … as the file names them, lower-case keys."""
    layout: str = ""
    """FFmpeg's name of the channels' layout, such as `quad`; the usual one for their number when empty."""


def usual_layout(channels: int) -> str:
    """FFmpeg's name of the layout that so many channels have where nothing is said."""
    return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(channels, f"{channels}c")


_SLOPPY = 0.1
"""Seconds by which times may be off without a gap: containers round them."""
_LONGEST_GAP = 3600.0
"""Seconds; beyond, it is no gap but another clock."""


def start_of(container: InputContainer) -> float:
    """Seconds of the clock of a file at which its first stream begins."""
    return (container.start_time or 0) / av.time_base


def has_sound(path: str | Path) -> bool:
    """Whether a media file has an audio stream."""
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return bool(container.streams.audio)
    except (av.error.FFmpegError, OSError, ValueError):
        return False


class AudioReader:
    """The first audio stream of a media file, as float32 samples.

    Args:
        source: a path, or an open binary file (a pipe will do).
        sample_rate: Hz to convert to; the file's own when None.
        name: what errors call it.
        device: FFmpeg's name for a kind of input device, such as `alsa` or `avfoundation`; `source` is then one of
            its devices.
        on_clock: sound that begins later than the file's first stream begins with silence; otherwise the first
            sample that there is comes first.

    Gaps in the sound are filled with silence, so that what follows stays where it was. Where time goes back, or jumps
    by more than an hour, the sound goes on from there.

    Raises:
        MediaError: the file cannot be opened, or has no audio.
    """

    def __init__(
        self,
        source: str | Path | IO[bytes],
        sample_rate: int | None = None,
        name: str | None = None,
        device: str | None = None,
        on_clock: bool = False,
    ) -> None:
        self.name = name or (str(source) if isinstance(source, str | Path) else "input")
        try:
            place = str(source) if isinstance(source, Path) else source
            self._container = cast(InputContainer, av.open(place, format=device, metadata_errors="ignore"))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name}: cannot be read as a media file ({reason(error)})") from None
        if not self._container.streams.audio:
            self._container.close()
            raise MediaError(f"{self.name}: has no audio stream; give a file with sound")
        self._stream = self._container.streams.audio[0]
        tags = {**self._container.metadata, **self._stream.metadata}
        keep = {k.lower(): v for k, v in tags.items() if k.lower() not in TECHNICAL_TAGS}
        channels, layout = self._stream.channels, self._stream.layout.name
        unsaid = layout in (usual_layout(channels), f"{channels} channels")
        self.facts = AudioFacts(self._stream.rate, channels, keep, "" if unsaid else layout)
        self.duration = self._container.duration / av.time_base if self._container.duration else None
        """Seconds as the container states them, None when unknown; for progress only."""
        self.samples_in = 0
        """Samples a channel read so far, at the file's own rate, silence in gaps included."""
        self._start = start_of(self._container) if on_clock else None
        """Seconds of the file's clock that the first sample stands for; None before the first one came."""
        self._resampler = AudioResampler("fltp", self._stream.layout, sample_rate or self._stream.rate)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of samples float32 (channels, n) at the asked rate.

        Raises:
            MediaError: the data are damaged.
        """
        try:
            for frame in self._container.decode(self._stream):
                yield from self._gap_before(frame)
                self.samples_in += frame.samples
                yield from map(_to_array, self._resampler.resample(frame))
            yield from map(_to_array, self._resampler.resample(None))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{self.name}: damaged {self.samples_in / self.facts.sample_rate:.2f} s after its start ({reason(error)})"
            ) from None

    def _gap_before(self, frame: AudioFrame) -> Iterator[Samples]:
        """Silence that is missing before a frame."""
        if frame.time is None:
            return
        rate = self.facts.sample_rate
        if self._start is None:
            self._start = frame.time
        lacking = round((frame.time - self._start) * rate) - self.samples_in
        if not -_SLOPPY * rate < lacking < _LONGEST_GAP * rate:
            self._start += lacking / rate
        elif lacking >= _SLOPPY * rate:
            self.samples_in += lacking
            # A second at a time: the gap may be long.
            for begin in range(0, lacking, rate):
                for piece in self._resampler.resample(_silence(frame, min(rate, lacking - begin))):
                    yield _to_array(piece)

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


TECHNICAL_TAGS = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "creation_time",
    "handler_name",
    "vendor_id",
    "language",
}


def _to_array(frame: AudioFrame) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False)


def _silence(like: AudioFrame, samples: int) -> AudioFrame:
    """Silence in the format of another frame."""
    silent = AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    zero = b"\x80" if like.format.name.startswith("u8") else b"\0"
    for plane in silent.planes:
        plane.update(zero * plane.buffer_size)
    silent.sample_rate = like.sample_rate
    return silent


def reason(error: Any) -> str:
    """What FFmpeg or the system says of an error, without a full stop."""
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")


class Resampler:
    """Changes the sample rate of a stream of blocks float32 (channels, n); keeps time: nothing is delayed.

    FFmpeg's swresample, one instance a channel, so any number of channels will do.
    """

    def __init__(self, channels: int, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._each = [AudioResampler("fltp", "mono", target) for _ in range(channels)]

    def push(self, block: Samples) -> Samples:
        """Samples that are ready; all of them when the rates are equal."""
        if self._source == self._target:
            return block
        frames = [_to_frame(row[None], self._source) if block.shape[1] else None for row in block]
        return self._collect(
            [each.resample(f) if f else [] for each, f in zip(self._each, frames, strict=True)]
        )

    def flush(self) -> Samples:
        """The rest, after the last block."""
        if self._source == self._target:
            return np.zeros((len(self._each), 0), np.float32)
        return self._collect([each.resample(None) for each in self._each])

    @staticmethod
    def _collect(rows: list[list[AudioFrame]]) -> Samples:
        joined = [
            np.concatenate([f.to_ndarray()[0] for f in row]) if row else np.zeros(0, np.float32)
            for row in rows
        ]
        return np.stack(joined).astype(np.float32, copy=False)


CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".mp4": "aac",
    ".mka": "flac",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".aiff": "pcm_s16be",
    ".w64": "pcm_s16le",
    ".caf": "pcm_s16le",
}
"""Audio codec that is written for each file extension."""
WAV_FORMATS = {"int16": "pcm_s16le", "int24": "pcm_s24le", "float32": "pcm_f32le"}


class AudioTrack:
    """A stream of sound in a container that is being written.

    Args:
        container: open for writing.
        codec: FFmpeg's name of the coder.
        facts: sample rate and channels; the nearest rate that the coder takes is written.
    """

    def __init__(self, container: Any, codec: str, facts: AudioFacts) -> None:
        rates = av.Codec(codec, "w").audio_rates
        rate = facts.sample_rate
        if rates and rate not in rates:
            rate = min((r for r in rates if r >= rate), default=max(rates))
        usual = usual_layout(facts.channels)
        layout = facts.layout if _takes(codec, rate, facts) else usual
        self.changed = f"{facts.layout} is written as {layout}" if facts.layout not in ("", layout) else ""
        """What of the facts the coder cannot say, in words; empty where it says all."""
        self._container, self._facts, self._layout, self._written = container, facts, layout, 0
        self._stream = cast(AudioStream, container.add_stream(codec, rate=rate, layout=layout))
        self._stream.codec_context.open()
        context = self._stream.codec_context
        self._convert = AudioResampler(context.format, layout, rate, frame_size=context.frame_size or None)

    @property
    def seconds(self) -> float:
        """Duration written so far."""
        return self._written / self._facts.sample_rate

    def write(self, block: Samples) -> None:
        """Append samples float32 (channels, n); those beyond ±1 are clipped where the format cannot hold them."""
        if not block.shape[1]:
            return
        frame = _to_frame(block, self._facts.sample_rate, self._layout)
        frame.pts = self._written
        self._written += block.shape[1]
        self._encode(self._convert.resample(frame))

    def close(self) -> None:
        """Write what the coder still holds."""
        if self._written:
            self._encode(self._convert.resample(None))
        self._encode([None])

    def _encode(self, frames: list[AudioFrame] | list[None]) -> None:
        try:
            for frame in frames:
                self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"writing sound failed ({reason(error)})") from None


def _takes(codec: str, rate: int, facts: AudioFacts) -> bool:
    """Whether a coder takes the layout of channels."""
    try:
        if not facts.layout or av.AudioLayout(facts.layout).nb_channels != facts.channels:
            return False
        context = cast(av.AudioCodecContext, av.CodecContext.create(codec, "w"))
        context.sample_rate, context.layout = rate, facts.layout
        formats = av.Codec(codec, "w").audio_formats
        context.format = formats[0] if formats else "s16"
        context.open()
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    return True


class AudioWriter:
    """Writes float32 blocks (channels, n) to a media file.

    Args:
        target: a binary file; `suffix` says what is written into it.
        suffix: extension such as `.wav`, a key of `CODECS`.
        facts: sample rate, channels and tags.
        sample_format: `int16`, `int24` or `float32`; wav only.

    Raises:
        MediaError: the extension is unknown, or the format cannot take these samples.
    """

    def __init__(
        self, target: IO[bytes], suffix: str, facts: AudioFacts, sample_format: str = "int16"
    ) -> None:
        if suffix not in CODECS:
            raise MediaError(f"{suffix or 'no extension'}: cannot be written; use one of {', '.join(CODECS)}")
        if sample_format != "int16" and suffix != ".wav":
            raise MediaError(f"{suffix}: {sample_format} samples are written to .wav only")
        codec = WAV_FORMATS[sample_format] if suffix == ".wav" else CODECS[suffix]
        container = {".m4a": "ipod", ".mka": "matroska"}.get(suffix, suffix[1:])
        try:
            options = {"rf64": "auto"} if suffix == ".wav" and target.seekable() else {}
            self._container = open_output(target, container, options)
            self._container.metadata.update(facts.tags)
            self._track = AudioTrack(self._container, codec, facts)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{suffix}: cannot hold {facts.channels} channels at {facts.sample_rate} Hz ({reason(error)}); use .wav"
            ) from None

    @property
    def changed(self) -> str:
        """What of the facts the format cannot say, in words; empty where it says all."""
        return self._track.changed

    def write(self, block: Samples) -> None:
        """Append samples; those beyond ±1 are clipped where the format cannot hold them."""
        self._track.write(block)

    def close(self) -> None:
        """Finish the file."""
        self._container.start_encoding()  # a file without samples has a header all the same
        self._track.close()
        self._container.close()


def open_output(target: IO[bytes], container: str, options: dict[str, str]) -> OutputContainer:
    """A container that is written into a binary file, or into a pipe.

    Raises:
        av.error.FFmpegError, OSError, ValueError: FFmpeg refuses.
    """
    place = target if target.seekable() else _WriteOnly(target)
    return cast(OutputContainer, av.open(place, "w", format=container, options=options))


class _WriteOnly:
    """A pipe as PyAV likes it: without seeking."""

    def __init__(self, target: IO[bytes]) -> None:
        self.write = target.write


def _to_frame(block: Samples, sample_rate: int, layout: str = "mono") -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(block, np.float32), format="fltp", layout=layout)
    frame.sample_rate = sample_rate
    return frame

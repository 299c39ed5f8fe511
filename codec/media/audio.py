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
SOUND = frozenset({
    ".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff", ".caf", ".w64", ".au",
    ".mka", ".amr", ".wv", ".ape",
})  # fmt: skip
"""Endings of sound that are taken from folders and shards; files that are named are always tried."""


@dataclass(frozen=True)
class AudioFacts:
    """What must be given back after decoding."""

    sample_rate: int
    """Hz."""
    channels: int
    tags: dict[str, str] = field(default_factory=dict)
    """Title, artist, … as the file names them, lower-case keys."""


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

    Raises:
        MediaError: the file cannot be opened, or has no audio.
    """

    def __init__(
        self, source: str | Path | IO[bytes], sample_rate: int | None = None, name: str | None = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
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
                f"{self.name}: damaged {self.samples_in / self.facts.sample_rate:.2f} s after its start ({reason(error)})"
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


TECHNICAL_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "creation_time", "handler_name",
                   "vendor_id", "language"}  # fmt: skip


def _to_array(frame: AudioFrame) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False)


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
    ".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame", ".m4a": "aac", ".mp4": "aac", ".mka": "flac",
    ".ogg": "libopus", ".opus": "libopus", ".aiff": "pcm_s16be", ".w64": "pcm_s16le", ".caf": "pcm_s16le",
}  # fmt: skip
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
        layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(facts.channels, f"{facts.channels}c")
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

"""Sound: media to `.fsq` and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from ..audio.codec import NeuralAudioCodec
from ..bitstream.reader import Reader
from ..bitstream.writer import PACKET_SECONDS
from ..media.audio import AudioFacts, AudioWriter
from ..progress import Progress
from .outcome import Outcome
from .span import Span

_ENDLESS = 1 << 62
"""Samples."""


def encode(
    codec: NeuralAudioCodec,
    source: IO[bytes],
    name: str,
    target: IO[bytes],
    *,
    kbps: float | None = None,
    packet_seconds: float = PACKET_SECONDS,
    effort: int | None = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Encode an open media file.

    Args:
        codec: for sound.
        source: the media file.
        name: what errors call it.
        target: takes the `.fsq` file.
        kbps: average bitrate at most.
        packet_seconds: length of a packet.
        effort: steps of the search; see `AudioCodec.encode`.
        progress: told of seconds that are done.

    Raises:
        MediaError: it cannot be read, or has no sound.
        ModelError: `effort` is asked of a model without a prior.
    """
    encoded = codec.encode_media(
        source, name, kbps=kbps, packet_seconds=packet_seconds, effort=effort, progress=progress
    )
    size = codec.write(encoded, target, packet_seconds)
    rate = f", {size * 8 / 1000 / encoded.seconds:.2f} kbit/s" if encoded.seconds else ""
    return Outcome(f"{encoded.seconds:.1f} s, {encoded.tokens.shape[1]} stages{rate}")


def decode(
    codec: NeuralAudioCodec,
    reader: Reader,
    target: IO[bytes],
    suffix: str,
    *,
    stages: int | None = None,
    span: Span = Span(),
    sample_format: str = "int16",
    label: str = "",
    progress: Progress | None = None,
    notify: Callable[[str], None] = print,
) -> Outcome:
    """Decode an open `.fsq` file of sound; of one that was cut, what is there.

    Args:
        codec: the model that it was made with.
        reader: the file; where it keeps going, what is lost is told to `notify`.
        target: takes the media file.
        suffix: its format.
        stages: decode at most this many.
        span: what is wanted of it.
        sample_format: int16, int24 or float32 samples in `.wav` files.
        label: what progress calls it.
        progress: told of seconds that are done.
        notify: told in a line what was lost.

    Raises:
        BitstreamError: it is damaged, and the reader does not keep going; or nothing lies in the span.
        MediaError: the format cannot be written.
        ModelError: it was made with another model.
    """
    header = codec.bitstream.check(reader)
    rate, total = header.sample_rate, header.samples
    writer = AudioWriter(target, suffix, AudioFacts(rate, header.channels, header.tags), sample_format)
    begin = round(span.start * rate)
    asked = _ENDLESS if span.duration is None else begin + round(span.duration * rate)
    end = min(_ENDLESS if total is None else total, asked)
    if total is not None and begin >= end and not span.whole:
        raise reader.error(
            0, f"nothing between {span.start:g} s and the end", f"it lasts {total / rate:.2f} s"
        )
    if progress:
        progress.start(label, span.duration if total is None else (end - begin) / rate)
    first = reader.seek(int(span.start * codec.frame_rate)) if begin else 0
    at = codec.sample_of(first, rate)
    packets = codec.bitstream.read(reader, stages, reader.keep_going)
    for block in codec.decode_blocks(packets, header, stages, first):
        part = block[:, max(0, begin - at) : max(0, end - at)]
        at += block.shape[1]
        writer.write(part)
        if progress:
            progress.advance(part.shape[1] / rate)
        if at >= end:
            break
    writer.close()
    missing = reader.missing
    if total is not None and at < end and not missing:
        missing = f"{(end - at) / rate:.2f} s at the end are lost"
    if reader.lost:
        notify(f"{reader.name}: {reader.lost} damaged bytes were skipped")
    return Outcome(f"{(min(at, end) - begin) / rate:.1f} s", f"{reader.name}: {missing}" if missing else "")

"""Sound that passes through as it was: its packets, bit for bit, and what it takes to write them again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer

from ..errors import MediaError
from .audio import start_of


@dataclass(frozen=True)
class MediaPacket:
    """One packet of a stream, as its container holds it."""

    data: bytes
    time: int
    """Ticks of the stream, from the beginning of the file's first stream on."""
    duration: int
    """Ticks; 0 when unknown."""
    seconds: float
    """When it is heard."""


def packets(path: str | Path) -> Iterator[MediaPacket]:
    """The packets of a file's first audio stream that have a time.

    Raises:
        MediaError: there is none; said at once.
    """
    container = cast(InputContainer, av.open(str(path), metadata_errors="ignore"))
    if not container.streams.audio:
        container.close()
        raise MediaError(f"{path}: has no audio stream; give a file with sound")
    return _demux(container)


def _demux(container: InputContainer) -> Iterator[MediaPacket]:
    with container:
        start, last = start_of(container), None
        for packet in container.demux(container.streams.audio[0]):
            if packet.size and packet.pts is not None and packet.time_base is not None:
                time = packet.pts - round(start / packet.time_base)
                if last is not None and time <= last:  # a splice: another clock goes on from here
                    start -= float((last + (packet.duration or 1) - time) * packet.time_base)
                    time = last + (packet.duration or 1)
                last = time
                yield MediaPacket(bytes(packet), time, packet.duration or 0, float(time * packet.time_base))


def describe(path: str | Path) -> dict[str, Any]:
    """What it takes to write the packets of a file's sound again as they are, ready for JSON.

    FFmpeg's description of the stream is kept as a Matroska file of its first packet.
    """
    sample = io.BytesIO()
    with cast(InputContainer, av.open(str(path), metadata_errors="ignore")) as source:
        stream = source.streams.audio[0]
        with av.open(sample, "w", format="matroska") as out:
            copy = out.add_stream_from_template(stream)
            packet = next(packet for packet in source.demux(stream) if packet.size)
            packet.stream = copy
            out.mux(packet)
        tick = stream.time_base or Fraction(1, 1000)
        return {
            "codec": stream.codec_context.name,
            "tick": [tick.numerator, tick.denominator],
            "sample": sample.getvalue().hex(),
        }

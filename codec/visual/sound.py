"""The sound beside pictures: coded by an audio codec, or passed through as it was, on the streams from 1 on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bitstream.header import FileHeader
from ..bitstream.packet import Packet
from ..bitstream.primitives import Cursor, unzigzag, varint, zigzag
from ..bitstream.reader import Reader
from ..errors import BitstreamError
from ..media import passthrough
from ..media.audio import AudioFacts, AudioReader, Samples, has_sound
from ..progress import Progress
from .header import MAX_STEP, MAX_TIME, VisualHeader

if TYPE_CHECKING:
    from ..audio.tokens import Encoded
    from ..protocols import AudioCodec

SOUND_KBPS = 6.0
"""Of each channel, where nobody asks for more or less."""


@dataclass(frozen=True)
class TimedPacket:
    """A packet and when it begins."""

    seconds: float
    packet: Packet


@dataclass(frozen=True)
class Sound:
    """What becomes of a video's sound."""

    packets: Iterator[TimedPacket]
    """On streams from 1 on."""
    audio: FileHeader | None = None
    """Header of sound coded by an audio codec."""
    carried: dict[str, Any] | None = None
    """Description of sound that passes through (`fsqcodec.media.passthrough`)."""


def no_sound() -> Sound:
    """Pictures alone."""
    return Sound(iter(()))


def coded_sound(codec: AudioCodec, encoded: Encoded) -> Sound:
    """Sound coded by an audio model."""
    bitstream = codec.bitstream
    frames = bitstream.packet_frames()
    packets = (
        TimedPacket(packet.start / bitstream.frame_rate, replace(packet, stream=1 + packet.stream))
        for packet in bitstream.packets(encoded, frames)
    )
    return Sound(packets, audio=bitstream.header(encoded, frames))


def copied_sound(path: str | Path) -> Sound:
    """The packets of a file's first audio stream, bit for bit.

    Raises:
        MediaError: it has none.
    """
    packets = (
        TimedPacket(
            packet.seconds,
            Packet(1, number, 1, (varint(zigzag(packet.time)) + varint(packet.duration), packet.data)),
        )
        for number, packet in enumerate(passthrough.packets(path))
    )
    return Sound(packets, carried=passthrough.describe(path))


def unpack_copied(packet: Packet) -> tuple[bytes, int, int]:
    """Data, time and duration in ticks of a packet of `copied_sound`.

    Raises:
        BitstreamError: it is damaged.
    """
    try:
        fields = Cursor(packet.layers[0])
        time, duration = fields.numbers(MAX_TIME, MAX_STEP)
    except ValueError as error:
        raise BitstreamError(f"sound: {error}") from None
    return b"".join(packet.layers[1:]), unzigzag(time), duration


def read_sound(
    path: str | Path,
    codec: AudioCodec,
    kbps: float,
    effort: int | None = 0,
    progress: Progress | None = None,
) -> Encoded | None:
    """Tokens of a video's sound at a bitrate of each channel; None where it has none."""
    if not has_sound(path):
        return None
    with AudioReader(path, codec.sample_rate) as reader:
        channels = reader.facts.channels
    encoded = codec.encode_media(path, kbps=kbps * channels, effort=effort, on_clock=True, progress=progress)
    return replace(encoded, tags={}) if encoded.samples else None


class SoundOf:
    """The packets of a video's sound, as an `AudioCodec` reads them."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.name, self.lost = reader, reader.name, 0
        self.error, self.seekable = reader.error, reader.seekable

    @property
    def header(self) -> FileHeader:
        """Header of the sound.

        Raises:
            BitstreamError: there is none.
        """
        header = self._reader.header
        if isinstance(header, VisualHeader):
            if header.audio is None:
                raise BitstreamError(f"{self.name}: holds no coded sound")
            return header.audio
        return header

    def __iter__(self) -> Iterator[Packet]:
        for packet in self._reader:
            if packet.stream:
                yield replace(packet, stream=packet.stream - 1)


def decode_sound(
    codec: AudioCodec, source: SoundOf, keep_going: bool
) -> tuple[AudioFacts, Iterator[Samples]]:
    """Facts and blocks of a video's coded sound."""
    header = codec.bitstream.check(source)
    facts = AudioFacts(header.sample_rate, header.channels, layout=header.layout)
    return facts, codec.decode_blocks(codec.bitstream.read(source, None, keep_going), header)

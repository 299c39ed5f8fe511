"""Whole files of pictures and sound: media to `.fsq` and back, a group of frames at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

from ..audio.codec import Codec
from ..audio.refine import Watch
from ..audio.tokens import Encoded
from ..bitstream.container import Packet, Writer, read_varint, unzigzag, varint, zigzag
from ..bitstream.reader import AnyHeader, Reader
from ..errors import BitstreamError, MediaError
from ..media.audio import AudioFacts, AudioReader, Samples, has_sound
from ..media.image import encode_still
from ..media.video_reader import Frame, FrameReader
from ..media.video_writer import MovieWriter, carried_facts
from ..visual.codec import GROUP, VisualCodec
from ..visual.header import Side, VisualHeader

DEFAULT_QUALITY = 5
SOUND_KBPS = 6.0
Step = Callable[[int], None]
"""Told how many frames are done."""


@dataclass(frozen=True)
class Sound:
    """What becomes of a video's sound."""

    packets: Iterator[tuple[float, Packet]]
    """Seconds at which a packet begins, and the packet, on streams from 1 on."""
    facts: dict[str, Any]
    """Fields of `VisualHeader`: `audio` or `carried`."""


def no_sound() -> Sound:
    """Pictures alone."""
    return Sound(iter(()), {})


def coded_sound(codec: Codec, encoded: Encoded) -> Sound:
    """Sound coded by an audio model."""
    frames = codec.packet_frames()
    header = codec.header(encoded, frames)

    packets = (
        (packet.start / codec.frame_rate, replace(packet, stream=1 + packet.stream))
        for packet in codec.packets(encoded, frames)
    )
    return Sound(packets, {"audio": header})


def carried_sound(path: str | Path) -> Sound:
    """The packets of a file's first audio stream, bit for bit.

    Raises:
        MediaError: it has none.
    """
    container = av.open(str(path), metadata_errors="ignore")
    if not container.streams.audio:
        raise MediaError(f"{path}: has no audio stream; give a file with sound")
    stream = container.streams.audio[0]

    def packets() -> Iterator[tuple[float, Packet]]:
        number = 0
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.time_base is not None:
                side = varint(zigzag(packet.pts)) + varint(packet.duration or 0)
                yield float(packet.pts * packet.time_base), Packet(1, number, 1, (side, bytes(packet)))
                number += 1
        container.close()

    return Sound(packets(), {"carried": carried_facts(path)})


def encode_film(
    codec: VisualCodec, reader: FrameReader, target: IO[bytes], sound: Sound, quality: int = DEFAULT_QUALITY,
    kbps: float | None = None, step: Step | None = None,
) -> int:  # fmt: skip
    """Write a `.fsq` file of a picture or a video, and return its bytes.

    Args:
        codec: the picture model.
        reader: the frames.
        target: a binary file; a pipe will do.
        sound: from `no_sound`, `coded_sound` or `carried_sound`.
        quality: 1 … codec.qualities; the highest that is tried where `kbps` is given.
        kbps: average bitrate of the file at most, sound and heads included; for a picture, the size in kbit.
        step: told of frames done.
    """
    facts, group = reader.facts, 1 if reader.facts.still else GROUP
    header = codec.header(
        facts.height, facts.width, tick=facts.time_base, frame_rate=facts.frame_rate,
        frames=1 if facts.still else reader.frames or None, packet_frames=group, still=facts.still,
        grey=facts.grey, transparent=facts.transparent and facts.still, colours=facts.colours, tags=facts.tags,
        **sound.facts,
    )  # fmt: skip
    writer = Writer(target, header)
    waiting = next(sound.packets, None)
    done = 0
    for frames in codec.groups(reader if facts.still else map(_opaque, reader), group):
        end = 1.0 if facts.still else header.span(done + len(frames))
        while waiting and waiting[0] < end:
            writer.write(waiting[1])
            waiting = next(sound.packets, None)
        budget = None if kbps is None else kbps * 125 * end - writer.size
        packet, quality = _fit(codec, frames, done, quality, budget)
        writer.write(packet)
        done += len(frames)
        if step:
            step(len(frames))
    while waiting:
        writer.write(waiting[1])
        waiting = next(sound.packets, None)
    return writer.finish()


def _opaque(frame: Frame) -> Frame:
    return replace(frame, alpha=None)


_HEADS = 40
"""Bytes of a packet's head and its place in the index."""


def _fit(
    codec: VisualCodec, frames: list[Frame], start: int, quality: int, budget: float | None
) -> tuple[Packet, int]:
    """A group within so many bytes, at the highest quality that fits from `quality` on; and that quality."""
    packet = codec.encode_group(frames, start, quality)
    if budget is None:
        return packet, quality

    def fits(candidate: Packet) -> bool:
        return sum(map(len, candidate.layers)) + _HEADS <= budget

    if fits(packet):
        while quality < codec.qualities:
            better = codec.encode_group(frames, start, quality + 1)
            if not fits(better):
                break
            packet, quality = better, quality + 1
        return packet, quality
    while quality > 1:
        quality -= 1
        packet = codec.encode_group(frames, start, quality)
        if fits(packet):
            return packet, quality
    layers = len(packet.layers)
    while layers > 2 and not fits(packet.peel(layers)):
        layers -= 1
    return packet.peel(layers), quality


class SoundOf:
    """The packets of a video's sound, as a `Codec` reads them."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.name, self.lost = reader, reader.name, 0
        self.error, self.seekable = reader.error, reader.seekable

    @property
    def header(self) -> AnyHeader:
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


def decode_sound(codec: Codec, source: SoundOf, keep_going: bool) -> tuple[AudioFacts, Iterator[Samples]]:
    """Facts and blocks of a video's coded sound."""
    header = codec.check(source)
    facts = AudioFacts(header.sample_rate, header.channels)
    return facts, codec.decode_blocks(codec.read_packets(source, None, keep_going), header)


@dataclass
class FilmDecoder:
    """Decodes a `.fsq` file of pictures.

    Args:
        codec: the picture model.
        reader: the file; where it keeps going, damaged groups are left out.
        sound: facts and blocks of its coded sound, from `decode_sound`; None to leave it out.
    """

    codec: VisualCodec
    reader: Reader
    sound: tuple[AudioFacts, Iterator[Samples]] | None = None
    lost: int = 0
    """Packets that were left out."""

    def still(self, suffix: str, stages: int | None = None) -> bytes:
        """The bytes of an image file of the (first) picture."""
        header = self.codec.check(self.reader)
        for frame in self.frames(header, stages):
            picture = frame.picture
            if header.grey:
                picture = picture.mean(-1).round().astype(np.uint8)
            elif frame.alpha is not None:
                picture = np.concatenate([picture, frame.alpha[..., None]], -1)
            return encode_still(picture, suffix)
        raise self.reader.error(self.reader.position, "holds no picture")

    def movie(
        self, target: IO[bytes], suffix: str, stages: int | None = None, step: Step | None = None,
        start: float = 0.0, duration: float | None = None,
    ) -> int:  # fmt: skip
        """Write a video file and return its number of frames.

        Args:
            target: a binary file.
            suffix: its extension.
            stages: decode from at most this many.
            step: told of frames done.
            start: seconds from the first frame; groups before are not decoded. The part begins at time 0.
            duration: seconds; to the end when None.

        Raises:
            BitstreamError: a packet is damaged, or nothing lies between start and end.
            MediaError: the format cannot be written.
        """
        header = self.codec.check(self.reader)
        part = _Part(start, duration, header.tick)
        writer = MovieWriter(target, suffix, header.width, header.height, header.tick, header.frame_rate, header.tags,
                             header.colours, self.sound[0] if self.sound else None, header.carried)  # fmt: skip
        blocks = part.cut(*self.sound) if self.sound and writer.track else iter(())
        count, origin = 0, None
        for frame in self.frames(header, stages, writer, part):
            origin = frame.time if origin is None else origin
            writer.write(frame.picture, frame.time)
            count += 1
            now = float((frame.time - origin) * header.tick)
            while writer.track and writer.track.seconds < now and (block := next(blocks, None)) is not None:
                writer.write_sound(block)
            if step:
                step(1)
        for block in blocks:
            writer.write_sound(block)
        if not count and not part.whole:
            raise self.reader.error(0, f"no frame from {start:g} s on within what was asked for")
        writer.close()
        return count

    def frames(
        self, header: VisualHeader, stages: int | None = None, writer: MovieWriter | None = None,
        part: _Part | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """Frames in order, of a part only if one is given; carried sound goes to `writer` on the way.

        Raises:
            BitstreamError: a packet is damaged, and the reader does not keep going.
        """
        part = part or _Part(0.0, None, header.tick)
        for packet in self.reader:
            if packet.stream:
                if header.carried and writer:
                    _carry(packet, writer, part, Fraction(*header.carried["tick"]))
                continue
            try:
                where = part.place(packet)
                if where > 0:
                    return
                if where == 0:
                    yield from part.within(self.codec.decode_group(packet, header, stages))
            except BitstreamError as error:
                if not self.reader.keep_going:
                    raise self.reader.error(
                        packet.offset, str(error), "--keep-going decodes what is intact"
                    ) from None
                self.lost += 1


class _Part:
    """A stretch of a film, `start` seconds after its first frame, `duration` long."""

    def __init__(self, start: float, duration: float | None, tick: Fraction) -> None:
        self.whole = not start and duration is None
        self.start, self.end = start, float("inf") if duration is None else start + duration
        self._tick = tick
        self.origin: int | None = None
        """Time of the film's first frame, in ticks."""

    def place(self, packet: Packet) -> int:
        """-1 when a group ends before the part begins, 1 when it begins after its end, otherwise 0.

        Raises:
            BitstreamError: its times cannot be read.
        """
        if self.whole:
            return 0
        try:
            times = Side.unpack(packet.layers[0], packet.frames).times
        except ValueError as error:
            raise BitstreamError(f"side information: {error}") from None
        self.origin = times[0] if self.origin is None else self.origin
        first, last = (float((time - self.origin) * self._tick) for time in (times[0], times[-1]))
        return -1 if last < self.start else int(first >= self.end)

    def within(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Those of the frames that lie in the part, their times from its beginning on."""
        if self.whole:
            yield from frames
            return
        assert self.origin is not None
        begin = self.origin + round(Fraction(self.start) / self._tick)
        for frame in frames:
            if begin <= frame.time and (frame.time - self.origin) * self._tick < self.end:
                yield replace(frame, time=frame.time - begin)

    def cut(self, facts: AudioFacts, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """The part of blocks of samples that begin with the film."""
        at, begin = 0, round(self.start * facts.sample_rate)
        end = None if self.end == float("inf") else round(self.end * facts.sample_rate)
        for block in blocks:
            piece = block[:, max(0, begin - at) : None if end is None else max(0, end - at)]
            at += block.shape[1]
            if piece.shape[1]:
                yield piece
            if end is not None and at >= end:
                return


def _carry(packet: Packet, writer: MovieWriter, part: _Part, tick: Fraction) -> None:
    side, data = packet.layers[0], b"".join(packet.layers[1:])
    try:
        time, at = read_varint(side, 0, 1 << 60)
        duration, _ = read_varint(side, at, 1 << 48)
    except ValueError as error:
        raise BitstreamError(f"sound: {error}") from None
    seconds = unzigzag(time) * tick
    if part.whole or part.start <= seconds < part.end:
        writer.carry(data, unzigzag(time) - round(Fraction(part.start) / tick), duration)


def read_sound(
    path: str | Path, codec: Codec, kbps: float, effort: int | None = 0, watch: Watch | None = None
) -> Encoded | None:
    """Tokens of a video's sound at a bitrate of each channel; None where it has none."""
    if not has_sound(path):
        return None
    with AudioReader(path, codec.sample_rate) as reader:
        channels = reader.facts.channels
    encoded = codec.encode_media(path, kbps=kbps * channels, effort=effort, watch=watch)
    return replace(encoded, tags={}) if encoded.samples else None

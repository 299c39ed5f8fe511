"""Whole pictures and videos with their sound: media to `.fsq` and back, a group of frames at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import IO

import numpy as np

from ..bitstream.packet import Packet
from ..bitstream.reader import Reader
from ..bitstream.writer import Writer
from ..errors import BitstreamError
from ..media.audio import AudioFacts, Samples
from ..media.image import encode_still
from ..media.video_reader import Frame, FrameReader, VideoFacts
from ..media.video_writer import MovieWriter
from ..progress import Progress
from .groups import GROUP, GroupCodec
from .header import VisualHeader
from .part import Part
from .sound import Sound, unpack_copied

DEFAULT_QUALITY = 5


@dataclass(frozen=True)
class Source:
    """Frames to be encoded."""

    facts: VideoFacts
    frames: Iterable[Frame]
    """In order of time."""
    count: int | None = None
    """How many; None when it is not known."""

    @classmethod
    def of(cls, reader: FrameReader) -> Source:
        """The frames of a media file."""
        return cls(reader.facts, reader, reader.frames or None)


@dataclass(frozen=True)
class Written:
    """What became of a picture or a video."""

    size: int
    """Bytes of the file."""
    frames: int


def encode_movie(
    codec: GroupCodec,
    source: Source,
    target: IO[bytes],
    sound: Sound,
    quality: int = DEFAULT_QUALITY,
    kbps: float | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a `.fsq` file of a picture or a video.

    Args:
        codec: the picture model.
        source: the frames.
        target: a binary file; a pipe will do.
        sound: from `no_sound`, `coded_sound` or `copied_sound`.
        quality: 1 … codec.qualities; the highest that is tried where `kbps` is given.
        kbps: average bitrate of the file at most, sound and heads included; for a picture, the size in kbit.
        progress: told of frames done.
    """
    facts, group = source.facts, 1 if source.facts.still else GROUP
    header = codec.header(
        facts.height,
        facts.width,
        tick=facts.time_base,
        frame_rate=facts.frame_rate,
        frames=1 if facts.still else source.count,
        packet_frames=group,
        still=facts.still,
        grey=facts.grey,
        transparent=facts.transparent and facts.still,
        colours=facts.colours,
        tags=facts.tags,
        audio=sound.audio,
        carried=sound.carried,
    )
    writer = Writer(target, header)
    waiting = next(sound.packets, None)
    done = 0
    for frames in codec.groups(source.frames if facts.still else map(_opaque, source.frames), group):
        end = 1.0 if facts.still else header.span(done + len(frames))
        while waiting and waiting.seconds < end:
            writer.write(waiting.packet)
            waiting = next(sound.packets, None)
        budget = None if kbps is None else kbps * 125 * end - writer.size
        packet, quality = _fit(codec, frames, done, quality, budget)
        writer.write(packet)
        done += len(frames)
        if progress:
            progress.advance(len(frames))
    while waiting:
        writer.write(waiting.packet)
        waiting = next(sound.packets, None)
    return Written(writer.finish(), done)


def _opaque(frame: Frame) -> Frame:
    return replace(frame, alpha=None)


_HEADS = 40
"""Bytes of a packet's head and its place in the index."""


def _fit(
    codec: GroupCodec, frames: list[Frame], start: int, quality: int, budget: float | None
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


@dataclass
class MovieDecoder:
    """Decodes a `.fsq` file of pictures.

    Args:
        codec: the picture model.
        reader: the file; where it keeps going, damaged groups are left out.
        sound: facts and blocks of its coded sound, from `decode_sound`; None to leave it out.
    """

    codec: GroupCodec
    reader: Reader
    sound: tuple[AudioFacts, Iterator[Samples]] | None = None
    lost: int = 0
    """Packets that were left out."""
    repeated: int = 0
    dropped: int = 0
    """Frames of the last movie that came twice, or not at all, because its format has one frame rate."""

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
        self,
        target: IO[bytes],
        suffix: str,
        stages: int | None = None,
        progress: Progress | None = None,
        start: float = 0.0,
        duration: float | None = None,
    ) -> int:
        """Write a video file and return its number of frames.

        Args:
            target: a binary file.
            suffix: its extension.
            stages: decode from at most this many.
            progress: told of frames done.
            start: seconds from the first frame; groups before are not decoded. The part begins at time 0.
            duration: seconds; to the end when None.

        Raises:
            BitstreamError: a packet is damaged, or nothing lies between start and end.
            MediaError: the format cannot be written.
        """
        header = self.codec.check(self.reader)
        part = Part(start, duration, header.tick)
        writer = MovieWriter(
            target,
            suffix,
            header.width,
            header.height,
            header.tick,
            header.frame_rate,
            header.tags,
            header.colours,
            self.sound[0] if self.sound else None,
            header.carried,
        )
        blocks = part.cut(*self.sound) if self.sound and writer.track else iter(())
        count, origin = 0, None
        for frame in self.frames(header, stages, writer, part):
            origin = frame.time if origin is None else origin
            writer.write(frame.picture, frame.time)
            count += 1
            now = float((frame.time - origin) * header.tick)
            while writer.track and writer.track.seconds < now and (block := next(blocks, None)) is not None:
                writer.write_sound(block)
            if progress:
                progress.advance(1)
        for block in blocks:
            writer.write_sound(block)
        if not count and not part.whole:
            raise self.reader.error(0, f"no frame from {start:g} s on within what was asked for")
        writer.close()
        self.repeated, self.dropped = writer.repeated, writer.dropped
        return count

    def frames(
        self,
        header: VisualHeader,
        stages: int | None = None,
        writer: MovieWriter | None = None,
        part: Part | None = None,
    ) -> Iterator[Frame]:
        """Frames in order, of a part only if one is given; carried sound goes to `writer` on the way.

        Raises:
            BitstreamError: a packet is damaged, and the reader does not keep going.
        """
        part = part or Part(0.0, None, header.tick)
        for packet in self.reader:
            if packet.stream:
                if header.carried and writer:
                    _carry(packet, writer, part, Fraction(*header.carried["tick"]))
                continue
            try:
                where = part.compare(packet)
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


def _carry(packet: Packet, writer: MovieWriter, part: Part, tick: Fraction) -> None:
    data, time, duration = unpack_copied(packet)
    if part.holds(float(time * tick)):
        writer.carry(data, time - round(Fraction(part.start) / tick), duration)

"""The `.fsq` file, versions 1 to 3. Integers are LEB128 varints unless said otherwise; CRCs are CRC-32, big-endian.

    file    = header  packet*  [index]
    header  = "FSQC"  version:u8  length  fields  crc     (crc of all before it; version 3: the fields are deflated,
              see `fsqcodec.bitstream.header_dictionary`)
    fields  = kind  name:bytes  model_hash:8  table_hash:4  frame_samples  frame_rate  sample_rate  channels
              samples+1  stages  stages_per_layer  packet_frames  mid_side  tags:bytes(JSON)
              (bytes: length, then as many; a latent frame lasts frame_samples / frame_rate seconds)
    packet  = 0xF5  length  stream  start  frames  layers  (layer length)*  (layer)*  crc   (the last layer's
              length is not written: it ends with the packet)
            | 0xF6  length  stream  start  frames  tail  layers …               (from version 2 on: the last `tail`
              frames lack the last stage)
    index   = 0xF1  length  count  (frames from the packet before, bytes from the packet before)*  crc
              index_size:u24  0xF2                                     (size from 0xF1 to crc)

A packet decodes by itself and lasts some seconds. Its layers hold `stages_per_layer` stages each, in
order of importance: trailing layers may be cut off (`peel`). Version 3 is written. The index tells where the packets of stream 0 begin, which
those of other streams follow; version 1 also reads indices of all packets. It is a convenience of seeking; a file
without it (truncated, live) is read just as well, and one of few packets, whose header tells how long it is, has none.
Every size is checked against a limit before it is used.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Protocol

from ..errors import BitstreamError
from .header_dictionary import deflate

MAGIC, VERSIONS = b"FSQC", (1, 2, 3)
"""The last is written, all are read."""
DEFLATED = 3
"""Version from which on header fields are deflated."""
PACKET, TAILED, INDEX, END = 0xF5, 0xF6, 0xF1, 0xF2
"""First bytes of a packet, of one with a tail, and of the index, and the last of the file."""
TRAILER = 4
"""Bytes behind the index."""
AUDIO, VISUAL = 0, 1
"""Kinds of header; pictures and video have the fields of `fsqcodec.visual.header`."""

MAX_HEADER = 1 << 18
MAX_PACKET = 1 << 16
MAX_FRAMES = 2048
"""Latent frames in a packet."""
MAX_STAGES = 256
MAX_STREAMS = 64
MAX_SAMPLE_RATE = 1 << 20
PACKET_SECONDS = 5.0
"""Of sound in a packet, where nobody asks for more or less."""
_WORTH_AN_INDEX = 4
"""Packets from which on their places are written down."""
SMALLEST_PACKET = 10
"""Bytes; with MAX_FRAMES it bounds how long a gap the lost bytes can account for."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    model: str
    model_hash: bytes
    """8 bytes: what the tokens mean (quantizer and encoder)."""
    table_hash: bytes
    """4 bytes: the learned prior, or the static tables, that the layers are coded with."""
    frame_samples: int
    """Samples in a latent frame, at `frame_rate`."""
    frame_rate: int
    """Hz of the model."""
    sample_rate: int
    """Hz of the original, which decoding restores."""
    channels: int
    samples: int | None
    """Samples a channel of the original at its rate; None when it was not known."""
    stages: int
    """Stages that were written."""
    stages_per_layer: int
    packet_frames: int
    """Latent frames in a packet; the last may have up to twice as many."""
    mid_side: bool = False
    """The two streams are (left + right) / 2 and (left - right) / 2."""
    tags: dict[str, str] = field(default_factory=dict)
    kind: int = AUDIO

    @property
    def layers(self) -> int:
        """Layers of a complete packet."""
        return -(-self.stages // self.stages_per_layer)

    @property
    def streams(self) -> int:
        """Streams of packets: one a channel."""
        return self.channels

    @property
    def max_packet(self) -> int:
        """Bytes that a packet may claim."""
        return MAX_PACKET

    @property
    def seconds(self) -> float | None:
        """Duration; None when it was not known."""
        return None if self.samples is None else self.samples / self.sample_rate

    def span(self, frames: int) -> float:
        """Seconds of so many latent frames."""
        return frames * self.frame_samples / self.frame_rate

    def packet_limits(self, stream: int) -> tuple[int, int]:
        """Layers and frames that a packet of a stream may have at most; the last one takes what is left over."""
        return self.layers, min(MAX_FRAMES, 2 * self.packet_frames)

    def covered(self, ends: Sequence[int]) -> bool:
        """Whether streams that end with these frames are all that the header tells of."""
        return self.seconds is not None and all(self.span(end) >= self.seconds for end in ends)

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: the tags do not fit into MAX_HEADER.
        """
        return seal(self.fields())

    def fields(self) -> bytes:
        """The header's fields, without magic, length and crc."""
        tags = json.dumps(self.tags, ensure_ascii=False, separators=(",", ":")).encode() if self.tags else b""
        numbers = (self.frame_samples, self.frame_rate, self.sample_rate, self.channels, 0 if self.samples is None else self.samples + 1,
                   self.stages, self.stages_per_layer, self.packet_frames, int(self.mid_side))  # fmt: skip
        name = self.model.encode()
        body = varint(self.kind) + varint(len(name)) + name + self.model_hash + self.table_hash
        return body + b"".join(map(varint, numbers)) + varint(len(tags)) + tags

    @classmethod
    def unpack(cls, body: bytes) -> Header:
        """The header of the bytes between its length and its crc.

        Raises:
            ValueError: they are none.
        """
        kind, at = read_varint(body, 0, 0)
        size, at = read_varint(body, at, 256)
        name, at = body[at : at + size].decode("utf-8"), at + size
        hashes, at = body[at : at + 12], at + 12
        limits = (
            MAX_SAMPLE_RATE,
            MAX_SAMPLE_RATE,
            MAX_SAMPLE_RATE,
            MAX_STREAMS,
            1 << 48,
            MAX_STAGES,
            MAX_STAGES,
            MAX_FRAMES,
            1,
        )
        numbers = []
        for limit in limits:
            number, at = read_varint(body, at, limit)
            numbers.append(number)
        frame, frame_rate, rate, channels, samples, stages, per_layer, frames, mid_side = numbers
        size, at = read_varint(body, at, MAX_HEADER)
        if (
            at + size != len(body)
            or 0 in (frame, frame_rate, rate, channels, per_layer, frames)
            or (mid_side and channels != 2)
        ):
            raise ValueError("its fields do not fit together")
        tags = json.loads(body[at:].decode("utf-8")) if size else {}
        if not isinstance(tags, dict) or not all(isinstance(v, str) for v in tags.values()):
            raise ValueError("tags are not text")
        return cls(name, hashes[:8], hashes[8:], frame, frame_rate, rate, channels, samples - 1 if samples else None,
                      stages, per_layer, frames, bool(mid_side), tags, kind)  # fmt: skip


@dataclass(frozen=True)
class Packet:
    """A stretch of one stream."""

    stream: int
    start: int
    """First latent frame."""
    frames: int
    layers: tuple[bytes, ...]
    offset: int = 0
    """Byte of the file where it begins (when read)."""
    tail: int = 0
    """Frames at the end that lack the last stage."""

    def pack(self) -> bytes:
        """The bytes of the packet."""
        place = (self.stream, self.start, self.frames, *((self.tail,) if self.tail else ()))
        numbers = (*place, len(self.layers), *map(len, self.layers[:-1]))
        body = b"".join(map(varint, numbers)) + b"".join(self.layers)
        head = bytes([TAILED if self.tail else PACKET]) + varint(len(body)) + body
        return head + crc(head)

    @classmethod
    def unpack(
        cls, body: bytes, streams: int, layers: int, frames: int, size: int = MAX_PACKET, offset: int = 0,
        tailed: bool = False,
    ) -> Packet:  # fmt: skip
        """The packet of the bytes between its length and its crc.

        Args:
            body: the bytes.
            streams: number of streams that there are.
            layers: number of layers at most.
            frames: number of frames at most.
            size: bytes of a layer at most.
            offset: byte of the file where the packet begins.
            tailed: whether it has a tail.

        Raises:
            ValueError: they are none.
        """
        at, numbers = 0, []
        for limit in (streams - 1, 1 << 48, frames, *((frames,) if tailed else ()), layers):
            number, at = read_varint(body, at, limit)
            numbers.append(number)
        stream, start, count, *tail, parts = numbers
        sizes = []
        for _ in range(parts - 1):
            number, at = read_varint(body, at, size)
            sizes.append(number)
        if not count or not parts or at + sum(sizes) > len(body):
            raise ValueError("its layers do not fit into it")
        if tail == [0]:
            raise ValueError("its tail is none")
        edges = [*itertools.accumulate([at, *sizes]), len(body)]
        messages = tuple(body[a:b] for a, b in itertools.pairwise(edges))
        return cls(stream, start, count, messages, offset, *tail)

    def peel(self, layers: int) -> Packet:
        """The packet with its first `layers` layers only."""
        whole = layers >= len(self.layers)
        return replace(self, layers=self.layers[:layers], tail=self.tail if whole else 0)


class Packable(Protocol):
    """A header of any kind."""

    @property
    def streams(self) -> int:
        """Number of streams."""

    def pack(self) -> bytes:
        """The bytes of the header."""

    def covered(self, ends: Sequence[int]) -> bool:
        """Whether streams that end with these frames are all that the header tells of."""


def seal(fields: bytes) -> bytes:
    """A header of its fields: magic, version, length and crc around them, deflated.

    Raises:
        BitstreamError: they are longer than MAX_HEADER.
    """
    if len(fields) > MAX_HEADER:
        raise BitstreamError(f"a header of {len(fields)} bytes is more than {MAX_HEADER}: shorten the tags")
    body = deflate(fields)
    head = MAGIC + bytes([VERSIONS[-1]]) + varint(len(body)) + body
    return head + crc(head)


class Writer:
    """Writes a file front to back; works on pipes."""

    def __init__(self, file: IO[bytes], header: Packable) -> None:
        self._file, self._header, self._entries, self._at, self._start = file, header, [0], 0, 0
        self._index, self._ends = b"", [0] * header.streams
        self._put(header.pack())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._at

    def write(self, packet: Packet) -> None:
        """Append a packet; the index knows those of the first stream, which the others follow."""
        if packet.stream == 0:
            self._index += varint(packet.start - self._start) + varint(self._at - self._entries[-1])
            self._entries.append(self._at)
            self._start = packet.start
        self._ends[packet.stream] = packet.start + packet.frames
        self._put(packet.pack())

    def finish(self) -> int:
        """Append the index and return the bytes of the whole; the file stays open.

        An index of few packets would help nobody: it is left out, or empty where only it can mark the end.
        """
        count = len(self._entries) - 1
        if count < _WORTH_AN_INDEX and self._header.covered(self._ends):
            return self._at
        body = varint(count) + self._index if count >= _WORTH_AN_INDEX else varint(0)
        head = bytes([INDEX]) + varint(len(body)) + body
        block = head + crc(head)
        self._put(block + len(block).to_bytes(3, "big") + bytes([END]))
        return self._at

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)


def varint(value: int) -> bytes:
    """LEB128 bytes of a number ≥ 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """A number of at most `limit` at a place in data, and the place behind it.

    Raises:
        ValueError: the data end, or the number is larger.
    """
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            raise ValueError("data end within a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            if value > limit:
                raise ValueError(f"a size of {value} is beyond the limit of {limit}")
            return value, at
    raise ValueError("a number without end")


def zigzag(value: int) -> int:
    """A whole number as one ≥ 0, small ones staying small; for `varint`."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    """Inverse of `zigzag`."""
    return value // 2 if value % 2 == 0 else -(value // 2) - 1


def crc(data: bytes) -> bytes:
    """CRC-32, 4 bytes big-endian."""
    return zlib.crc32(data).to_bytes(4, "big")

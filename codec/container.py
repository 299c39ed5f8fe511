"""The `.fsq` file, version 1. Integers are LEB128 varints unless said otherwise; CRCs are CRC-32, big-endian.

    file    = header  packet*  [index]
    header  = "FSQC"  version:u8  length  fields  crc                        (crc of all before it)
    fields  = kind  name:bytes  model_hash:8  table_hash:4  frame_samples  frame_rate  sample_rate  channels
              samples+1  stages  stages_per_layer  packet_frames  mid_side  tags:bytes(JSON)
              (bytes: length, then as many; a latent frame lasts frame_samples / frame_rate seconds)
    packet  = 0xF5  length  stream  start  frames  layers  (layer length)*  (layer)*  crc   (the last layer's
              length is not written: it ends with the packet)
    index   = 0xF1  length  count  (frames from the packet before, bytes from the packet before)*  crc
              index_size:u24  0xF2                                     (size from 0xF1 to crc)

A packet decodes by itself and lasts a couple of seconds. Its layers hold `stages_per_layer` stages each, in
order of importance: trailing layers may be cut off (`peel`). The index is a convenience of seeking; a file
without it (truncated, live) is read just as well. Every size is checked against a limit before it is used.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from .errors import BitstreamError

MAGIC, VERSION = b"FSQC", 1
_PACKET, _INDEX, _END = 0xF5, 0xF1, 0xF2
_TRAILER = 4
"""Bytes behind the index."""
AUDIO = 0

MAX_HEADER = 1 << 18
MAX_PACKET = 1 << 16
MAX_FRAMES = 2048
"""Latent frames in a packet."""
MAX_STAGES = 256
MAX_STREAMS = 64
MAX_SAMPLE_RATE = 1 << 20
_SMALLEST_PACKET = 10
"""Bytes; with MAX_FRAMES it bounds how long a gap the lost bytes can account for."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    model: str
    model_hash: bytes
    """8 bytes: what the tokens mean (quantizer and encoder)."""
    table_hash: bytes
    """4 bytes: the frequency tables that the layers are coded with."""
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

    def pack(self) -> bytes:
        """The bytes of the header.

        Raises:
            BitstreamError: the tags do not fit into MAX_HEADER.
        """
        tags = json.dumps(self.tags, ensure_ascii=False, separators=(",", ":")).encode() if self.tags else b""
        numbers = (self.frame_samples, self.frame_rate, self.sample_rate, self.channels, 0 if self.samples is None else self.samples + 1,
                   self.stages, self.stages_per_layer, self.packet_frames, int(self.mid_side))  # fmt: skip
        name = self.model.encode()
        body = varint(self.kind) + varint(len(name)) + name + self.model_hash + self.table_hash
        body += b"".join(map(varint, numbers)) + varint(len(tags)) + tags
        if len(body) > MAX_HEADER:
            raise BitstreamError(f"a header of {len(body)} bytes is more than {MAX_HEADER}: shorten the tags")
        head = MAGIC + bytes([VERSION]) + varint(len(body)) + body
        return head + _crc(head)


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

    def pack(self) -> bytes:
        """The bytes of the packet."""
        numbers = (self.stream, self.start, self.frames, len(self.layers), *map(len, self.layers[:-1]))
        body = b"".join(map(varint, numbers)) + b"".join(self.layers)
        head = bytes([_PACKET]) + varint(len(body)) + body
        return head + _crc(head)

    def peel(self, layers: int) -> Packet:
        """The packet with its first `layers` layers only."""
        return replace(self, layers=self.layers[:layers])


@dataclass(frozen=True)
class Survey:
    """Where the bytes of a file go."""

    header: Header
    seconds: float
    """Duration; of the packets where the header does not tell."""
    packets: int
    total: int
    """Bytes of the file."""
    layers: tuple[int, ...]
    """Bytes of each layer, over all packets."""
    complete: bool
    """Whether the file has its end."""

    @property
    def overhead(self) -> int:
        """Bytes of header, packet heads, checksums and index."""
        return self.total - sum(self.layers)

    def kbps(self, size: int | None = None) -> float:
        """Average kbit/s of `size` bytes, of the whole file by default."""
        return (self.total if size is None else size) * 8 / 1000 / self.seconds if self.seconds else 0.0

    def layers_within(self, kbps: float) -> int:
        """How many layers fit into an average bitrate, at least one."""
        sizes = [self.overhead + sum(self.layers[: n + 1]) for n in range(len(self.layers))]
        return max(1, sum(self.kbps(size) <= kbps for size in sizes))


def survey(reader: Reader) -> Survey:
    """Read a file's packets, decoding nothing."""
    layers, packets, frames = [0] * reader.header.layers, 0, 0
    for packet in reader:
        packets, frames = packets + 1, max(frames, packet.start + packet.frames)
        for i, layer in enumerate(packet.layers):
            layers[i] += len(layer)
    header = reader.header
    known = header.samples is not None
    seconds = (
        (header.samples or 0) / header.sample_rate
        if known
        else frames * header.frame_samples / header.frame_rate
    )
    return Survey(header, seconds, packets, reader.position, tuple(layers), reader.complete)


class Writer:
    """Writes a file front to back; works on pipes."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file, self._entries, self._at, self._start = file, [0], 0, 0
        self._index = b""
        self._put(header.pack())

    def write(self, packet: Packet) -> None:
        """Append a packet."""
        self._index += varint(packet.start - self._start) + varint(self._at - self._entries[-1])
        self._entries.append(self._at)
        self._start = packet.start
        self._put(packet.pack())

    def finish(self) -> int:
        """Append the index and return the bytes of the whole; the file stays open."""
        body = varint(len(self._entries) - 1) + self._index
        head = bytes([_INDEX]) + varint(len(body)) + body
        block = head + _crc(head)
        self._put(block + len(block).to_bytes(3, "big") + bytes([_END]))
        return self._at

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)


class Reader:
    """Reads the header at once and then packets in order.

    Args:
        file: binary file, a pipe will do.
        name: what errors call it.
        keep_going: skip what is damaged instead of raising; `lost` counts the bytes skipped.

    Raises:
        BitstreamError: with the name and the byte offset, when something is wrong.
    """

    def __init__(self, file: IO[bytes], name: str = "input", keep_going: bool = False) -> None:
        self._file, self.name, self._keep_going = file, name, keep_going
        self._window, self._at = b"", 0
        self.lost = 0
        self._first = 0
        self.complete = False
        """Whether the index at the end was met, so that nothing is missing behind the last packet."""
        self.header = self._read_header()

    def _fill(self, size: int) -> bool:
        while len(self._window) < size:
            data = self._file.read(max(size - len(self._window), 1 << 16))
            if not data:
                return False
            self._window += data
        return True

    def _skip(self, size: int) -> bytes:
        taken, self._window = self._window[:size], self._window[size:]
        self._at += size
        return taken

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

    def error(self, offset: int, what: str, remedy: str = "") -> BitstreamError:
        """An error that names the file, the byte and the remedy."""
        return BitstreamError(f"{self.name}: byte {offset}: {what}" + (f"; {remedy}" if remedy else ""))

    def seek(self, frame: int) -> int:
        """Go on with the packets that hold a latent frame and, if there are any, the ones before them.

        A packet early, the decoder's state has settled when the frame comes. Files without a sound index
        and pipes stay where they are.

        Returns:
            the first frame that will be read.
        """
        entries = (read_index(self._file) if self._file.seekable() else None) or [(0, self._at)]
        starts = sorted({start for start, _ in entries if start <= frame})
        self._first = starts[-2] if len(starts) > 1 else 0
        if self._first:
            self._at = next(offset for start, offset in entries if start == self._first)
            self._file.seek(self._at)
            self._window = b""
        return self._first

    def _read_header(self) -> Header:
        start = len(MAGIC) + 1
        if not self._fill(start) or self._window[: len(MAGIC)] != MAGIC:
            raise self.error(0, "not an .fsq file", "encode a media file first with `fsqcodec encode`")
        if self._window[start - 1] != VERSION:
            raise self.error(4, f"format version {self._window[start - 1]}, this program reads {VERSION}",
                             "a newer fsqcodec may read it")  # fmt: skip
        self._fill(start + 5)
        try:
            size, at = read_varint(self._window, start, MAX_HEADER)
        except ValueError as error:
            raise self.error(start, f"header: {error}", "get the file again from its source") from None
        if not self._fill(at + size + 4):
            raise self.error(at, "the file ends inside its header", "get the whole file")
        if _crc(self._window[: at + size]) != self._window[at + size : at + size + 4]:
            raise self.error(at, "the header is damaged", "get the file again from its source")
        try:
            header = _parse_fields(self._window[at : at + size])
        except ValueError as error:
            raise self.error(at, f"header: {error}", "get the file again from its source") from None
        self._skip(at + size + 4)
        return header

    def __iter__(self) -> Iterator[Packet]:
        """Packets as they come; the last frames of each stream are remembered to check their order."""
        ahead = [self._first] * self.header.channels
        damaged_at: int | None = None
        lost_before = 0
        while True:
            packet, size, problem = self._next()
            if packet is None and not problem:
                return
            if packet:
                gap = packet.start - ahead[packet.stream]
                lost = self.lost - lost_before
                if gap < 0:
                    problem = f"packet goes back to frame {packet.start}"
                elif gap and not self._keep_going:
                    problem = f"frames {ahead[packet.stream]} to {packet.start} are missing"
                elif gap > MAX_FRAMES * (1 + lost // _SMALLEST_PACKET):
                    problem = f"packet claims a gap of {gap} frames"
            if problem:
                if not self._keep_going:
                    raise self.error(self._at, problem, "--keep-going decodes what is intact")
                damaged_at = self._at if damaged_at is None else damaged_at
                self._skip(1)
                self.lost += 1
                continue
            assert packet is not None
            ahead[packet.stream] = packet.start + packet.frames
            if all(end == ahead[0] for end in ahead):
                lost_before = self.lost
            self._skip(size)
            yield packet

    def _next(self) -> tuple[Packet | None, int, str]:
        """The packet here and its size; (None, 0, "") at the end; (None, 0, problem) where there is none."""
        if not self._fill(1):
            return None, 0, ""
        kind = self._window[0]
        if kind not in (_PACKET, _INDEX):
            return None, 0, "no packet begins here"
        self._fill(6)
        try:
            size, at = read_varint(self._window, 1, MAX_PACKET if kind == _PACKET else 1 << 24)
        except ValueError as error:
            return None, 0, f"packet: {error}"
        if not self._fill(at + size + 4):
            return None, 0, "the file ends inside a packet"
        if _crc(self._window[: at + size]) != self._window[at + size : at + size + 4]:
            return None, 0, "checksum of a packet is wrong"
        if kind == _INDEX:
            self._fill(at + size + 4 + _TRAILER + 1)
            behind = len(self._window) - (at + size + 4)
            if behind > _TRAILER and not self._keep_going:
                return None, 0, "data behind the end of the file"
            self._skip(at + size + 4 + min(behind, _TRAILER))
            self.complete = True
            return None, 0, ""
        try:
            return self._parse_packet(self._window[at : at + size]), at + size + 4, ""
        except ValueError as error:
            return None, 0, f"packet: {error}"

    def _parse_packet(self, body: bytes) -> Packet:
        stream, at = read_varint(body, 0, self.header.channels - 1)
        start, at = read_varint(body, at, 1 << 48)
        frames, at = read_varint(body, at, min(MAX_FRAMES, 2 * self.header.packet_frames))
        count, at = read_varint(body, at, self.header.layers)
        sizes = []
        for _ in range(count - 1):
            size, at = read_varint(body, at, MAX_PACKET)
            sizes.append(size)
        if not frames or not count or at + sum(sizes) > len(body):
            raise ValueError("its layers do not fit into it")
        sizes.append(len(body) - at - sum(sizes))
        layers = []
        for size in sizes:
            layers.append(body[at : at + size])
            at += size
        return Packet(stream, start, frames, tuple(layers), self._at)


def read_index(file: IO[bytes]) -> list[tuple[int, int]] | None:
    """(start frame, byte offset) of every packet of a seekable file; None where there is no sound index.

    The file's position is left where it was.
    """
    here = file.tell()
    try:
        end = file.seek(0, io.SEEK_END)
        if end < _TRAILER:
            return None
        file.seek(end - _TRAILER)
        tail = file.read(_TRAILER)
        size = int.from_bytes(tail[:3], "big")
        if tail[3] != _END or size > end - _TRAILER:
            return None
        file.seek(end - _TRAILER - size)
        block = file.read(size)
        if len(block) < 6 or block[0] != _INDEX or _crc(block[:-4]) != block[-4:]:
            return None
        _, at = read_varint(block, 1, len(block))
        count, at = read_varint(block, at, len(block))
        entries, start, offset = [], 0, 0
        for _ in range(count):
            step, at = read_varint(block, at, 1 << 48)
            jump, at = read_varint(block, at, 1 << 48)
            start, offset = start + step, offset + jump
            entries.append((start, offset))
        return entries
    except ValueError:
        return None
    finally:
        file.seek(here)


def _parse_fields(body: bytes) -> Header:
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
    return Header(name, hashes[:8], hashes[8:], frame, frame_rate, rate, channels, samples - 1 if samples else None,
                  stages, per_layer, frames, bool(mid_side), tags, kind)  # fmt: skip


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


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")

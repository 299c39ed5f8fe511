"""A packet: a stretch of one stream, which decodes by itself, with layers in order of importance.

    packet  = kind:u8  length  body  crc
    body    = stream  start  frames  layers  (layer length)*  (layer)*             kind 0xF5; the last layer's length is not
              written: it ends with the packet
            | stream  start  frames  tail  layers  …           kind 0xF6, from version 2 on: the last `tail` frames lack
              the last stage
            | stream  start  frames  layers  fields:bytes  …   kind 0xF4, from version 4 on: typed fields say more

Kinds 0xE0 … 0xEF are for what is to come and may be skipped; a file with any other unknown kind must be refused.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ..errors import BitstreamError
from .fields import Field, FieldReader, pack_fields
from .primitives import Cursor, crc, sized, varints

PACKET, TAILED, TYPED_PACKET = 0xF5, 0xF6, 0xF4
"""First byte of a packet, of one with a tail, and of one with fields."""
SKIPPABLE = range(0xE0, 0xF0)
"""First bytes of packets that a reader may skip where it does not know them."""
MAX_PACKET = 1 << 16
"""Bytes of a packet of sound."""
MAX_FRAMES = 2048
"""Latent frames in a packet of sound."""
MAX_START = 1 << 48
"""First frame of a packet."""
SMALLEST_PACKET = 10
"""Bytes; with MAX_FRAMES it bounds how long a gap the lost bytes can account for."""
TAIL = Field(1, "frames that lack the last stage", True, (MAX_FRAMES,))
STEREO = Field(2, "stereo mode", True, (1,))
FIELDS = (TAIL, STEREO)
_MAX_FIELDS = 1 << 10


@dataclass(frozen=True)
class PacketLimits:
    """What a packet of a file may claim."""

    streams: int
    """Number of streams that there are."""
    layers: int
    """Layers at most."""
    frames: int
    """Frames at most."""
    size: int = MAX_PACKET
    """Bytes of the body at most."""


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
    stereo: int | None = None
    """How two channels are coded here: 0 each by itself, 1 as mid and side; None as the header says."""

    def pack(self) -> bytes:
        """The bytes of the packet."""
        position = self.stream, self.start, self.frames
        sizes = (*map(len, self.layers[:-1]),)
        if self.stereo is not None:
            fields = {STEREO: STEREO.numbers(self.stereo)}
            if self.tail:
                fields[TAIL] = TAIL.numbers(self.tail)
            kind, head = TYPED_PACKET, varints((*position, len(self.layers))) + sized(pack_fields(fields))
        elif self.tail:
            kind, head = TAILED, varints((*position, self.tail, len(self.layers)))
        else:
            kind, head = PACKET, varints((*position, len(self.layers)))
        packed = bytes([kind]) + sized(head + varints(sizes) + b"".join(self.layers))
        return packed + crc(packed)

    def check(self, limits: PacketLimits) -> None:
        """Check that a reader will accept it.

        Raises:
            BitstreamError: it is beyond a limit.
        """
        size = sum(map(len, self.layers)) + 10 * (len(self.layers) + 4)  # varints take ten bytes at most
        claims = (
            ("stream", self.stream, limits.streams - 1),
            ("frames", self.frames, limits.frames),
            ("layers", len(self.layers), limits.layers),
            ("first frame", self.start, MAX_START),
            ("bytes", size, limits.size),
        )
        for name, value, limit in claims:
            if value > limit:
                raise BitstreamError(
                    f"packet: {name}: {value} is more than {limit}, which a file can hold; choose shorter packets"
                )
        if not self.frames or not self.layers or self.tail > self.frames:
            raise BitstreamError(
                f"packet: {self.frames} frames, {self.tail} of them in its tail, and {len(self.layers)} layers"
            )

    @classmethod
    def unpack(cls, kind: int, body: bytes, limits: PacketLimits, offset: int = 0) -> Packet:
        """The packet of the bytes between its length and its crc.

        Args:
            kind: its first byte.
            body: the bytes.
            limits: what it may claim.
            offset: byte of the file where the packet begins.

        Raises:
            ValueError: they are none.
        """
        return cls.behind(PacketHead.read(kind, Cursor(body), limits, len(body)), body, offset)

    @classmethod
    def behind(cls, head: PacketHead, body: bytes, offset: int = 0) -> Packet:
        """The packet of a head that was read and its whole body."""
        edges = [*itertools.accumulate([head.end, *head.sizes]), len(body)]
        layers = tuple(body[a:b] for a, b in itertools.pairwise(edges))
        return cls(head.stream, head.start, head.frames, layers, offset, head.tail, head.stereo)

    def peel(self, layers: int) -> Packet:
        """The packet with its first `layers` layers only."""
        whole = layers >= len(self.layers)
        return replace(self, layers=self.layers[:layers], tail=self.tail if whole else 0)


@dataclass(frozen=True)
class PacketHead:
    """What a packet says before its layers; enough to tell most false packets from true ones."""

    stream: int
    start: int
    frames: int
    tail: int
    stereo: int | None
    sizes: tuple[int, ...]
    """Bytes of every layer but the last."""
    end: int
    """Bytes of the body up to the layers."""

    @classmethod
    def read(cls, kind: int, fields: Cursor, limits: PacketLimits, size: int) -> PacketHead:
        """The head of a packet's body of `size` bytes, of which `fields` has the first.

        Raises:
            ValueError: it is none, or beyond the limits.
        """
        if kind not in (PACKET, TAILED, TYPED_PACKET):
            raise ValueError(
                f"packets of kind {kind:#x} are needed to read it, and this program does not know them"
            )
        stream, start, frames = fields.numbers(limits.streams - 1, MAX_START, limits.frames)
        tail = fields.number(limits.frames) if kind == TAILED else 0
        if kind == TAILED and not tail:
            raise ValueError("its tail is none")
        count = fields.number(limits.layers)
        stereo: int | None = None
        if kind == TYPED_PACKET:
            typed = FieldReader(fields.sized(_MAX_FIELDS), FIELDS)
            (tail,) = typed.numbers(TAIL, (0,))
            stereo = typed.numbers(STEREO)[0] if STEREO in typed else None
        if not frames or not count or tail > frames:
            raise ValueError("its layers do not fit into it")
        sizes = tuple(fields.number(limits.size) for _ in range(count - 1))
        if fields.at + sum(sizes) > size:
            raise ValueError("its layers do not fit into it")
        return cls(stream, start, frames, tail, stereo, sizes, fields.at)

"""A packet: a stretch of one stream, which decodes by itself, with layers in order of importance.

packet  = 0xF5  length  stream  start  frames  layers  (layer length)*  (layer)*  crc   (the last layer's
          length is not written: it ends with the packet)
        | 0xF6  length  stream  start  frames  tail  layers …     (from version 2 on: the last `tail` frames lack
          the last stage)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from .primitives import Cursor, crc, sized, varints

PACKET, TAILED = 0xF5, 0xF6
"""First byte of a packet, and of one with a tail."""
MAX_PACKET = 1 << 16
"""Bytes of a packet of sound."""
MAX_FRAMES = 2048
"""Latent frames in a packet of sound."""
MAX_START = 1 << 48
"""First frame of a packet."""
SMALLEST_PACKET = 10
"""Bytes; with MAX_FRAMES it bounds how long a gap the lost bytes can account for."""


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
    """Bytes of a layer at most."""


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
        position = (self.stream, self.start, self.frames, *((self.tail,) if self.tail else ()))
        numbers = (*position, len(self.layers), *map(len, self.layers[:-1]))
        head = bytes([TAILED if self.tail else PACKET]) + sized(varints(numbers) + b"".join(self.layers))
        return head + crc(head)

    @classmethod
    def unpack(cls, body: bytes, limits: PacketLimits, offset: int = 0, tailed: bool = False) -> Packet:
        """The packet of the bytes between its length and its crc.

        Args:
            body: the bytes.
            limits: what it may claim.
            offset: byte of the file where the packet begins.
            tailed: whether it has a tail.

        Raises:
            ValueError: they are none.
        """
        fields = Cursor(body)
        stream, start, frames = fields.numbers(limits.streams - 1, MAX_START, limits.frames)
        tail = fields.number(limits.frames) if tailed else 0
        count = fields.number(limits.layers)
        sizes = [fields.number(limits.size) for _ in range(count - 1)]
        if not frames or not count or fields.at + sum(sizes) > len(body):
            raise ValueError("its layers do not fit into it")
        if tailed and not tail:
            raise ValueError("its tail is none")
        edges = [*itertools.accumulate([fields.at, *sizes]), len(body)]
        layers = tuple(body[a:b] for a, b in itertools.pairwise(edges))
        return cls(stream, start, frames, layers, offset, tail)

    def peel(self, layers: int) -> Packet:
        """The packet with its first `layers` layers only."""
        whole = layers >= len(self.layers)
        return replace(self, layers=self.layers[:layers], tail=self.tail if whole else 0)

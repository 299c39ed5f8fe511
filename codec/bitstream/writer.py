"""Writing `.fsq` files front to back.

    file    = header  packet*  [index]
    index   = 0xF1  length  count  (frames from the packet before, bytes from the packet before)*  crc
              index_size:u24  0xF2                                     (size from 0xF1 to crc)

The index tells where the packets of stream 0 begin, which those of other streams follow; version 1 also has indices of
all packets. It is a convenience of seeking: a file without it (truncated, live) is read just as well, and one of few
packets, whose header tells how long it is, has none.
"""

from __future__ import annotations

from typing import IO

from .header import FileHeader
from .packet import Packet
from .primitives import crc, sized, varint

INDEX, END = 0xF1, 0xF2
"""First byte of the index, and the last of the file."""
TRAILER = 4
"""Bytes behind the index."""
MAX_INDEX = 1 << 24
"""Bytes of an index."""
PACKET_SECONDS = 5.0
"""Of sound in a packet, where nobody asks for more or less."""
_WORTH_AN_INDEX = 4
"""Packets from which on their positions are written down."""


class Writer:
    """Writes a file front to back; works on pipes."""

    def __init__(self, file: IO[bytes], header: FileHeader) -> None:
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
        entries = varint(count) + self._index if count >= _WORTH_AN_INDEX else varint(0)
        head = bytes([INDEX]) + sized(entries)
        block = head + crc(head)
        self._put(block + len(block).to_bytes(3, "big") + bytes([END]))
        return self._at

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)

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

from ..errors import BitstreamError
from .header import FileHeader
from .packet import Packet, PacketLimits
from .primitives import crc, sized, varint

INDEX, END = 0xF1, 0xF2
"""First byte of the index, and the last of the file."""
TRAILER = 4
"""Bytes behind the index."""
MAX_INDEX = 1 << 24
"""Bytes of an index."""
_MOST_ENTRIES = 1 << 19
"""Packets that an index tells of; of more, every second, every fourth, …"""
PACKET_SECONDS = 5.0
"""Of sound in a packet, where nobody asks for more or less."""
_WORTH_AN_INDEX = 4
"""Packets from which on their positions are written down."""


class Writer:
    """Writes a file front to back; works on pipes.

    Raises:
        BitstreamError: the header or a packet is beyond what a reader accepts.
    """

    def __init__(self, file: IO[bytes], header: FileHeader) -> None:
        self._file, self._header, self._at = file, header, 0
        self._entries: list[tuple[int, int]] = []
        """First frame and byte of packets of the first stream, every `_stride`-th."""
        self._stride, self._count = 1, 0
        self._ends = [0] * header.streams
        self._put(header.pack())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._at

    def write(self, packet: Packet) -> None:
        """Append a packet; the index knows those of the first stream, which the others follow."""
        header = self._header
        packet.check(PacketLimits(header.streams, *header.packet_limits(packet.stream), header.max_packet))
        if packet.start < self._ends[packet.stream]:
            raise BitstreamError(
                f"packet: goes back from frame {self._ends[packet.stream]} to {packet.start} of stream {packet.stream}"
            )
        if packet.stream == 0:
            if self._count % self._stride == 0:
                self._entries.append((packet.start, self._at))
            self._count += 1
            if len(self._entries) > _MOST_ENTRIES:
                self._entries, self._stride = self._entries[::2], 2 * self._stride
        self._ends[packet.stream] = packet.start + packet.frames
        self._put(packet.pack())

    def finish(self) -> int:
        """Append the index and return the bytes of the whole; the file stays open.

        An index of few packets would help nobody: it is left out, or empty where only it can mark the end.
        """
        if self._count < _WORTH_AN_INDEX and self._header.covered(self._ends):
            return self._at
        entries = self._entries if self._count >= _WORTH_AN_INDEX else []
        body, before = [varint(len(entries))], (0, 0)
        for entry in entries:
            body += [varint(entry[0] - before[0]), varint(entry[1] - before[1])]
            before = entry
        head = bytes([INDEX]) + sized(b"".join(body))
        block = head + crc(head)
        self._put(block + len(block).to_bytes(3, "big") + bytes([END]))
        return self._at

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)

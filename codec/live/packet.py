"""Packets of live sound, each the end of a datagram or message of its own.

    live packet = 0xF7 | 0xF8  start  shape  message  crc:u16
    shape       = (frames - 1) · (stages of the model) + (stages - 1)

`start` and `shape` are varints; the CRC-16/CCITT, big-endian, is of all before it.

An *independent* packet (0xF7) decodes by itself, a *predicted* one (0xF8) with those before it
(`prediction`). All stages are one message: nobody leaves layers out of a packet of 40 ms, and every message
costs. Packets of earlier versions, framed as in the `.fsq` file, are read as independent ones.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from ..bitstream.packet import MAX_FRAMES, MAX_PACKET, PACKET, Packet, PacketLimits
from ..bitstream.primitives import crc, read_varint, varint
from ..errors import BitstreamError

_INDEPENDENT, _PREDICTED = 0xF7, 0xF8
_CRC_BYTES = 2


@dataclass(frozen=True)
class LivePacket:
    """A stretch of a live stream."""

    start: int
    """First latent frame, which is also the sequence number."""
    frames: int
    """Latent frames."""
    stages: int
    """Stages of each frame."""
    message: bytes
    """Entropy-coded tokens."""
    independent: bool
    """Whether it decodes by itself."""

    def pack(self, stages: int) -> bytes:
        """The bytes of the packet, for a model of so many stages."""
        shape = (self.frames - 1) * stages + self.stages - 1
        kind = bytes([_INDEPENDENT if self.independent else _PREDICTED])
        body = kind + varint(self.start) + varint(shape) + self.message
        return body + _checksum(body)

    @classmethod
    def unpack(cls, data: bytes, stages: int) -> LivePacket:
        """The packet of some bytes.

        Args:
            data: the bytes.
            stages: of the model.

        Raises:
            BitstreamError: they are damaged, or none of this model's.
        """
        try:
            packet = _read_framed(data) if data[:1] == bytes([PACKET]) else _read(data, stages)
            if not 1 <= packet.stages <= stages:
                raise ValueError("stages that the model does not have")
        except ValueError as error:
            raise BitstreamError(f"live packet: {error}") from None
        return packet


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(_CRC_BYTES, "big")


def _read(data: bytes, stages: int) -> LivePacket:
    if not _CRC_BYTES < len(data) <= MAX_PACKET or data[0] not in (_INDEPENDENT, _PREDICTED):
        raise ValueError("no packet begins here")
    body = data[:-_CRC_BYTES]
    if _checksum(body) != data[-_CRC_BYTES:]:
        raise ValueError("checksum is wrong")
    start, at = read_varint(body, 1, 1 << 48)
    shape, at = read_varint(body, at, MAX_FRAMES * stages - 1)
    frames, last = divmod(shape, stages)
    return LivePacket(start, frames + 1, last + 1, body[at:], data[0] == _INDEPENDENT)


def _read_framed(data: bytes) -> LivePacket:
    """A packet as earlier versions made them: a file's, whose only layer begins with the number of stages."""
    size, at = read_varint(data, 1, MAX_PACKET)
    if at + size + 4 != len(data) or crc(data[:-4]) != data[-4:]:
        raise ValueError("checksum is wrong")
    framed = Packet.unpack(PACKET, data[at : at + size], PacketLimits(streams=1, layers=1, frames=MAX_FRAMES))
    message = framed.layers[0]
    if not message:
        raise ValueError("it is empty")
    return LivePacket(framed.start, framed.frames, message[0], message[1:], True)

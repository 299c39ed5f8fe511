"""Packets of live sound, each the end of a datagram or message of its own, and how one goes on from those before it.

    live packet = 0xF7 | 0xF8  start  shape  message  crc:u16      (varints; CRC-16/CCITT, big-endian, of all before it)
    shape       = (frames - 1) · (stages of the model) + (stages - 1)

A *key* packet (0xF7) decodes by itself. One that is chained (0xF8) is coded with the prior still seeing the frames before it, at most
`REACH` of them and none before the last key: as short as live packets are, that is a third of their bits. It is of no
use when one since the key was lost. Its stages are one message: nobody leaves layers out of a packet of 40 ms, and every message costs.
Packets of earlier versions, framed as in the `.fsq` file, are read as keys.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..audio.prior import REACH
from ..bitstream.packet import MAX_FRAMES, MAX_PACKET, PACKET, Packet, PacketLimits
from ..bitstream.primitives import crc, read_varint, varint
from ..errors import BitstreamError
from ..protocols import AudioCodec

_KEY, _CHAINED = 0xF7, 0xF8
_CRC = 2
"""Bytes of the checksum."""


@dataclass(frozen=True)
class LivePacket:
    """A stretch of a live stream."""

    start: int
    """First latent frame."""
    frames: int
    stages: int
    message: bytes
    key: bool

    def pack(self, stages: int) -> bytes:
        """The bytes of the packet, for a model of so many stages."""
        shape = (self.frames - 1) * stages + self.stages - 1
        kind = bytes([_KEY if self.key else _CHAINED])
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
            found = _unframed(data) if data[:1] == bytes([PACKET]) else _unpacked(data, stages)
            if not 1 <= found.stages <= stages:
                raise ValueError("stages that the model does not have")
        except ValueError as error:
            raise BitstreamError(f"live packet: {error}") from None
        return found


@dataclass
class Chain:
    """One end of a live stream: what its next packet may go on from."""

    past: NDArray[np.integer] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    """Tokens (n, stages) of the frames before it since the last key, the latest `REACH` at most."""
    end: int = 0
    """The latent frame that comes next."""
    length: int = 0
    """Packets since the last key, that included; 0 makes the next one a key."""

    def close(self, codec: AudioCodec, tokens: NDArray[np.integer], key_every: int) -> bytes:
        """The packet of the next tokens (frames, stages); every `key_every`-th is a key."""
        key = self.length % key_every == 0
        past = tokens[:0] if key else self.past
        start, message = self.end, codec.coder.encode_whole(tokens, past)
        self._grow(past, tokens, start, key)
        return LivePacket(start, len(tokens), tokens.shape[1], message, key).pack(codec.stages)

    def open(self, codec: AudioCodec, packet: LivePacket) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of a packet.

        Raises:
            BitstreamError: it goes on from one that did not come, or no encoder wrote its message.
        """
        if not packet.key and (packet.start != self.end or packet.stages != self.past.shape[1]):
            raise BitstreamError("live packet: the one that it goes on from is missing")
        past = np.zeros((0, packet.stages), np.int32) if packet.key else self.past
        tokens = codec.coder.decode_whole(packet.message, packet.frames, packet.stages, past)
        self._grow(past, tokens, packet.start, packet.key)
        return tokens

    def _grow(self, past: NDArray[np.integer], tokens: NDArray[np.integer], start: int, key: bool) -> None:
        self.past = np.concatenate([past, tokens])[-REACH:]
        self.end, self.length = start + len(tokens), 1 if key else self.length + 1


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(_CRC, "big")


def _unpacked(data: bytes, stages: int) -> LivePacket:
    if len(data) <= _CRC or len(data) > MAX_PACKET or data[0] not in (_KEY, _CHAINED):
        raise ValueError("no packet begins here")
    if _checksum(data[:-_CRC]) != data[-_CRC:]:
        raise ValueError("checksum is wrong")
    start, at = read_varint(data[:-_CRC], 1, 1 << 48)
    shape, at = read_varint(data[:-_CRC], at, MAX_FRAMES * stages - 1)
    frames, last = divmod(shape, stages)
    return LivePacket(start, frames + 1, last + 1, data[at:-_CRC], data[0] == _KEY)


def _unframed(data: bytes) -> LivePacket:
    """A packet as earlier versions made them: a file's, whose only layer begins with the number of stages."""
    size, at = read_varint(data, 1, MAX_PACKET)
    if at + size + 4 != len(data) or crc(data[:-4]) != data[-4:]:
        raise ValueError("checksum is wrong")
    found = Packet.unpack(data[at : at + size], PacketLimits(streams=1, layers=1, frames=MAX_FRAMES))
    message = found.layers[0]
    if not message:
        raise ValueError("it is empty")
    return LivePacket(found.start, found.frames, message[0], message[1:], True)

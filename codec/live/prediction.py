"""Tokens ↔ live packets: independent ones, and ones that are predicted from those before them.

A predicted packet is coded with the prior still seeing the frames before it, at most `REACH` of them and none
before the last independent packet: as short as live packets are, that is a third of their bits. It cannot be
decoded when a packet since the last independent one was lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..audio.prior import REACH
from ..errors import BitstreamError
from ..protocols import AudioCodec
from .packet import LivePacket


@dataclass
class PacketCoder:
    """What one end of a live stream codes its next packet with; both ends of a stream hold the same."""

    context: NDArray[np.integer] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    """Tokens (n, stages) of the frames before it since the last independent packet, the latest `REACH` at
    most."""
    next_frame: int = 0
    """The latent frame that comes next."""
    since_independent: int = 0
    """Packets since the last independent one, that included; 0 makes the next one independent."""

    def encode(self, codec: AudioCodec, tokens: NDArray[np.integer], independent_every: int) -> bytes:
        """The packet of the next tokens (frames, stages); every `independent_every`-th is independent."""
        independent = self.since_independent % independent_every == 0
        context = tokens[:0] if independent else self.context
        start, message = self.next_frame, codec.coder.encode_whole(tokens, context)
        self._extend(context, tokens, start, independent)
        return LivePacket(start, len(tokens), tokens.shape[1], message, independent).pack(codec.stages)

    def decode(self, codec: AudioCodec, packet: LivePacket) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of a packet.

        Raises:
            BitstreamError: it is predicted from one that did not come, or no encoder wrote its message.
        """
        follows = packet.start == self.next_frame and packet.stages == self.context.shape[1]
        if not packet.independent and not follows:
            raise BitstreamError("live packet: the one that it is predicted from is missing")
        context = np.zeros((0, packet.stages), np.int32) if packet.independent else self.context
        tokens = codec.coder.decode_whole(packet.message, packet.frames, packet.stages, context)
        self._extend(context, tokens, packet.start, packet.independent)
        return tokens

    def _extend(
        self, context: NDArray[np.integer], tokens: NDArray[np.integer], start: int, independent: bool
    ) -> None:
        self.context = np.concatenate([context, tokens])[-REACH:]
        self.next_frame = start + len(tokens)
        self.since_independent = 1 if independent else self.since_independent + 1

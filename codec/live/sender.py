"""Packets of one live stream from its tokens: which are keys, and how many stages fit into a bitrate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bitstream.packet import MAX_FRAMES
from ..protocols import AudioCodec
from .packet import Chain
from .rate_control import Pace


class Sender:
    """The sending end of a live stream, behind the networks.

    Args:
        codec: a model for sound.
        packet_frames: latent frames in a packet.
        stages: stages that are sent at most; all when None.
        key_every: packets from one that decodes by itself to the next.
        kbps: kilobits a second, heads included, that as many stages as fit take on average; no bound when None.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, codec: AudioCodec, packet_frames: int, stages: int | None, key_every: int, kbps: float | None
    ) -> None:
        if not 1 <= packet_frames <= MAX_FRAMES or key_every < 1:
            raise ValueError(f"packet_frames must be 1 … {MAX_FRAMES}, and key_every at least 1")
        if kbps is not None and not kbps > 0:
            raise ValueError(f"kbps must be more than 0, not {kbps}")
        self._codec, self._key_every = codec, key_every
        self._stages = min(stages or codec.stages, codec.stages)
        self._seconds, self._kbps = packet_frames / codec.frame_rate, kbps
        self.reset()

    def close(self, tokens: NDArray[np.integer]) -> bytes:
        """The packet of the next tokens (frames, stages of the model)."""
        tokens = tokens[:, : self._stages]
        if self._pace is None:
            return self._chain.close(self._codec, tokens, self._key_every)
        stages = self._pace.stages
        if stages != self._chain.past.shape[1]:
            self.request_key()
        packet = self._chain.close(self._codec, tokens[:, :stages], self._key_every)
        self._pace.note(self._codec.coder, tokens, self._chain.length == 1, len(packet))
        return packet

    def request_key(self) -> None:
        """Let the next packet decode by itself."""
        self._chain.length = 0

    def reset(self) -> None:
        """Start a new stream."""
        self._chain = Chain()
        self._pace = None if self._kbps is None else Pace(self._kbps, self._seconds, self._stages)

    def state(self) -> Any:
        """What `close` goes on from; not a copy."""
        return self._chain, self._pace

    def set_state(self, state: Any) -> None:
        """Go on from a state."""
        self._chain, self._pace = state

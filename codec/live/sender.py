"""The sending end of a live stream, behind the networks: tokens in, packets out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..bitstream.packet import MAX_FRAMES
from ..protocols import AudioCodec
from .prediction import PacketCoder
from .rate_control import RateControl


@dataclass
class SenderState:
    """What the next packet depends on."""

    rate_control: RateControl | None
    coder: PacketCoder = field(default_factory=PacketCoder)


class Sender:
    """Decides which packets are independent, and how many stages fit into a bitrate.

    Args:
        codec: a model for sound.
        packet_frames: latent frames in a packet.
        stages: stages that are sent at most; all when None.
        independent_every: packets from one that decodes by itself to the next.
        kbps: kilobits a second, headers included, that as many stages as fit take on average; no bound when
            None.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        codec: AudioCodec,
        packet_frames: int,
        stages: int | None,
        independent_every: int,
        kbps: float | None,
    ) -> None:
        if not 1 <= packet_frames <= MAX_FRAMES or independent_every < 1:
            raise ValueError(f"packet_frames must be 1 … {MAX_FRAMES}, and independent_every at least 1")
        if kbps is not None and not kbps > 0:
            raise ValueError(f"kbps must be more than 0, not {kbps}")
        self._codec, self._independent_every = codec, independent_every
        self._stages = min(stages or codec.stages, codec.stages)
        self._seconds, self._kbps = packet_frames / codec.frame_rate, kbps
        self.reset()

    def encode(self, tokens: NDArray[np.integer]) -> bytes:
        """The packet of the next tokens (frames, stages of the model)."""
        tokens = tokens[:, : self._stages]
        coder, rate_control = self.state.coder, self.state.rate_control
        if rate_control is None:
            return coder.encode(self._codec, tokens, self._independent_every)
        stages = rate_control.stages
        if stages != coder.context.shape[1]:
            self.request_independent()
        packet = coder.encode(self._codec, tokens[:, :stages], self._independent_every)
        rate_control.update(self._codec.coder, tokens, coder.since_independent == 1, len(packet))
        return packet

    def request_independent(self) -> None:
        """Let the next packet decode by itself."""
        self.state.coder.since_independent = 0

    def reset(self) -> None:
        """Start a new stream."""
        kbps = self._kbps
        rate_control = None if kbps is None else RateControl(kbps, self._seconds, self._stages)
        self.state = SenderState(rate_control)

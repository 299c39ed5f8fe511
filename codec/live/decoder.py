"""The receiving end of one live stream: packets in, in any order and with gaps; samples out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..audio.chunked import DecoderState, StreamDecoder
from ..deprecation import former_keywords, warn_of_former_name
from ..errors import BitstreamError
from ..protocols import AudioCodec
from .concealment import Concealment
from .jitter_buffer import JitterBuffer
from .packet import LivePacket
from .prediction import PacketCoder


@dataclass
class Received:
    """What a decoder has seen."""

    decoded: int = 0
    """Latent frames that were decoded."""
    concealed: int = 0
    """Latent frames that were concealed: nothing came, or what they are predicted from did not."""
    dropped: int = 0
    """Packets that came twice, too late or damaged."""


@dataclass
class ReceiverState:
    """What becomes of the next packet depends on this, apart from the networks."""

    concealment: Concealment
    buffer: JitterBuffer = field(default_factory=JitterBuffer)
    coder: PacketCoder = field(default_factory=PacketCoder)
    needs_independent: bool = False
    received: Received = field(default_factory=Received)


@dataclass(frozen=True)
class LiveDecoderState:
    """All that later samples depend on."""

    stream: DecoderState
    """Of the networks."""
    receiver: ReceiverState


class LiveDecoder:
    """Packets in, in any order and with gaps; samples out.

    What is lost is concealed (`fsqcodec.live.concealment`).

    Args:
        codec: the model that the packets were made with.
        jitter_buffer: packets that are waited for before a missing one is concealed; each adds its length of
            delay.
    """

    @former_keywords(patience="jitter_buffer")
    def __init__(self, codec: AudioCodec, jitter_buffer: int = 0) -> None:
        self._codec, self._most_waiting = codec, jitter_buffer
        self._stream = StreamDecoder(codec.networks, block=1)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._stream.reset()
        self._state = ReceiverState(Concealment(self._codec.stages))

    @property
    def needs_independent(self) -> bool:
        """Whether packets cannot be decoded until an independent one comes; `LiveEncoder.request_independent`
        sends one."""
        return self._state.needs_independent

    @property
    def needs_key(self) -> bool:
        """Former name of `needs_independent`."""
        warn_of_former_name("needs_key", "needs_independent")
        return self.needs_independent

    @property
    def received(self) -> Received:
        """Counts since the stream began."""
        return self._state.received

    def push(self, packet: bytes) -> NDArray[np.float32]:
        """Samples (n,) at the model's rate that a packet makes ready; none when it only fills the jitter
        buffer.

        A damaged packet counts as lost.
        """
        try:
            accepted = self._state.buffer.push(LivePacket.unpack(packet, self._codec.stages))
        except BitstreamError:
            accepted = False
        if not accepted:
            self.received.dropped += 1
            return np.zeros(0, np.float32)
        return self._play(self._most_waiting)

    def conceal(self, frames: int) -> NDArray[np.float32]:
        """Samples (n,) for latent frames that nothing came for, when the listener cannot wait any longer."""
        ready, buffer = self._play(0), self._state.buffer
        if buffer.next_frame is None:
            return ready
        buffer.next_frame += frames
        return np.concatenate([ready, self._conceal(frames)])

    def flush(self) -> NDArray[np.float32]:
        """The samples of what is still waiting."""
        return np.concatenate([self._play(0), self._stream.flush()])

    def _play(self, most_waiting: int) -> NDArray[np.float32]:
        out = [np.zeros(0, np.float32)]
        while (found := self._state.buffer.pop(most_waiting)) is not None:
            out.append(self._conceal(found) if isinstance(found, int) else self._decode(found))
        return np.concatenate(out)

    def _decode(self, packet: LivePacket) -> NDArray[np.float32]:
        state = self._state
        try:
            tokens = state.coder.decode(self._codec, packet)
        except BitstreamError:
            state.needs_independent = True
            return self._conceal(packet.frames)
        state.needs_independent = False
        state.concealment.receive(tokens)
        state.received.decoded += len(tokens)
        return self._stream.push(tokens)

    def _conceal(self, frames: int) -> NDArray[np.float32]:
        # A sender that was silent for long, or a hostile number: no more than a second is concealed.
        frames = min(frames, round(self._codec.frame_rate))
        out, silence = [np.zeros(0, np.float32)], np.zeros(self._codec.networks.frame, np.float32)
        for tokens, stages, gain in zip(*self._state.concealment.conceal(frames), strict=True):
            out.append(self._stream.push(tokens[None], int(stages)) * gain if stages else silence)
        self.received.concealed += frames
        return np.concatenate(out)

    def snapshot(self) -> LiveDecoderState:
        """The state now, for `restore`."""
        return copy.deepcopy(LiveDecoderState(self._stream.state(), self._state))

    def restore(self, state: LiveDecoderState) -> None:
        """Go on from a snapshot."""
        state = copy.deepcopy(state)
        self._stream.set_state(state.stream)
        self._state = state.receiver

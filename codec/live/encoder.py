"""The sending end of one live stream: samples in, packets out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audio.chunked import EncoderState, StreamEncoder
from ..deprecation import former_keywords, warn_of_former_name
from ..protocols import AudioCodec
from .sender import Sender, SenderState


@dataclass(frozen=True)
class LiveEncoderState:
    """All that later packets depend on."""

    stream: EncoderState
    """Of the networks, and the samples that wait."""
    sender: SenderState


class LiveEncoder:
    """Samples in, packets out.

    Args:
        codec: a model for sound, from `fsqcodec.load`.
        packet_frames: latent frames of 20 ms in a packet, from 1 on. Short packets have less delay and cost
            more.
        stages: stages that are sent; all when None.
        independent_every: packets from one that decodes by itself to the next. 1, where packets get lost;
            many where they arrive, or where the listener can ask (`LiveDecoder.needs_independent`,
            `request_independent`), for a third fewer bits in packets of 40 ms.
        kbps: kilobits a second, headers included, that as many of the stages as fit take on average; no bound
            when None.

    Raises:
        ValueError: a number of frames or packets, or the bitrate, out of range.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("speech-24k")
        >>> sender, receiver = fsqcodec.LiveEncoder(codec, packet_frames=2), fsqcodec.LiveDecoder(codec)
        >>> packets = sender.push(np.zeros(2400, np.float32))  # 0.1 s at 24 kHz: two packets of 40 ms
        >>> len(packets), sum(len(receiver.push(packet)) for packet in packets)
        (2, 1440)
    """

    @former_keywords(key_every="independent_every")
    def __init__(
        self,
        codec: AudioCodec,
        packet_frames: int = 2,
        stages: int | None = None,
        independent_every: int = 1,
        kbps: float | None = None,
    ) -> None:
        self._codec, self._frames = codec, packet_frames
        self._sender = Sender(codec, packet_frames, stages, independent_every, kbps)
        self._stream = StreamEncoder(codec.networks, block=packet_frames)

    @property
    def delay(self) -> float:
        """Seconds until a sample can be heard: the packet is awaited, and the decoder lags."""
        networks = self._codec.networks
        return (self._frames * networks.frame + networks.lag) / networks.sample_rate

    def push(self, samples: NDArray[np.float32]) -> list[bytes]:
        """Packets that are complete after samples (n,) at the model's rate, any n."""
        return self._packets(self._stream.push(np.asarray(samples, np.float32)))

    def flush(self) -> list[bytes]:
        """The packets of what is still waiting, filled up with silence; the stream ends here."""
        return self._packets(self._stream.flush())

    def _packets(self, tokens: NDArray[np.int64]) -> list[bytes]:
        starts = range(0, len(tokens), self._frames)
        return [self._sender.encode(tokens[start : start + self._frames]) for start in starts]

    def request_independent(self) -> None:
        """Let the next packet decode by itself: a listener lost one, or comes late."""
        self._sender.request_independent()

    def request_key(self) -> None:
        """Former name of `request_independent`."""
        warn_of_former_name("request_key", "request_independent")
        self.request_independent()

    def reset(self) -> None:
        """Start a new stream."""
        self._stream.reset()
        self._sender.reset()

    def snapshot(self) -> LiveEncoderState:
        """The state now, for `restore`."""
        return copy.deepcopy(LiveEncoderState(self._stream.state(), self._sender.state))

    def restore(self, state: LiveEncoderState) -> None:
        """Go on from a snapshot."""
        state = copy.deepcopy(state)
        self._stream.set_state(state.stream)
        self._sender.state = state.sender

"""Live sound: packets out as soon as they are complete, samples back whatever the network lost.

Packets are those of `chain`: keys decode by themselves, others go on from those before them. A packet's first latent frame is
its sequence number. The decoder puts late packets in order, leaves out what comes twice, and runs on through gaps:
the last latents once more, backwards and ever softer, so that a lost packet is a fade and not a hole.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.chunked import StreamDecoder, StreamEncoder
from ..errors import BitstreamError
from ..protocols import AudioCodec
from .packet import Chain, LivePacket
from .sender import Sender

HELD = 10
"""Latent frames that are made up at most, from as many that came."""
_WHOLE, _FADE = 2, 0.75


def fade(run: int | NDArray[np.integer]) -> NDArray[np.float32]:
    """Loudness, float32, of a latent frame that is made up after `run` others: ever softer after 40 ms, silence after 0.2 s."""
    softer = np.float32(_FADE) ** np.maximum(np.asarray(run) - _WHOLE, 0)
    return np.where(np.asarray(run) < HELD, softer, 0).astype(np.float32)


class Encoder:
    """Samples in, packets out.

    Args:
        codec: a model for sound, from `fsqcodec.load`.
        packet_frames: latent frames of 20 ms in a packet, from 1 on. Short packets have less delay and cost more.
        stages: stages that are sent; all when None.
        key_every: packets from one that decodes by itself to the next. 1, where packets get lost; many where they arrive,
            or where the listener can ask (`Decoder.needs_key`, `request_key`), for a third fewer bits in packets of 40 ms.
        kbps: kilobits a second, heads included, that as many of the stages as fit take on average; no bound when None.

    Raises:
        ValueError: a number of frames or packets, or the bitrate, out of range.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("speech-24k")
        >>> sender, receiver = fsqcodec.Encoder(codec, 2), fsqcodec.Decoder(codec)
        >>> packets = sender.push(np.zeros(2400, np.float32))  # 0.1 s at 24 kHz: two packets of 40 ms
        >>> len(packets), sum(len(receiver.push(packet)) for packet in packets)
        (2, 1440)
    """

    def __init__(
        self, codec: AudioCodec, packet_frames: int = 2, stages: int | None = None, key_every: int = 1,
        kbps: float | None = None,
    ) -> None:  # fmt: skip
        self._codec, self._frames = codec, packet_frames
        self._sender = Sender(codec, packet_frames, stages, key_every, kbps)
        self._stream = StreamEncoder(codec.networks, block=packet_frames)

    @property
    def delay(self) -> float:
        """Seconds from a sample to the moment it can be heard: the packet is awaited, and the decoder lags."""
        networks = self._codec.networks
        return (self._frames * networks.frame + networks.lag) / networks.sample_rate

    def push(self, samples: NDArray[np.float32]) -> list[bytes]:
        """Packets that are complete after samples (n,) at the model's rate, any n."""
        return self._pack(self._stream.push(np.asarray(samples, np.float32)))

    def flush(self) -> list[bytes]:
        """The packets of what is still waiting, filled up with silence; the stream ends here."""
        return self._pack(self._stream.flush())

    def _pack(self, tokens: NDArray[np.int64]) -> list[bytes]:
        starts = range(0, len(tokens), self._frames)
        return [self._sender.close(tokens[start : start + self._frames]) for start in starts]

    def request_key(self) -> None:
        """Let the next packet decode by itself: a listener lost one, or comes late."""
        self._sender.request_key()

    def reset(self) -> None:
        """Start a new stream."""
        self._stream.reset()
        self._sender.reset()

    def snapshot(self) -> Any:
        """The state now, for `restore`."""
        return copy.deepcopy((self._stream.state(), self._sender.state()))

    def restore(self, state: Any) -> None:
        """Go on from a snapshot."""
        stream, sender = copy.deepcopy(state)
        self._stream.set_state(stream)
        self._sender.set_state(sender)


@dataclass
class Received:
    """What a decoder has seen."""

    decoded: int = 0
    """Latent frames that were decoded."""
    concealed: int = 0
    """Latent frames that were made up: nothing came, or what it goes on from did not."""
    dropped: int = 0
    """Packets that came twice, too late or damaged."""


class Decoder:
    """Packets in, in any order and with gaps; samples out.

    What is lost is made up: the latents before it once more, backwards and ever softer. Speech played backwards for a moment
    is more like speech than a moment that stands still, and the networks remember nothing unlikely when the next packet comes.

    Args:
        codec: the model that the packets were made with.
        patience: packets that are waited for before a missing one is made up; each adds its length of delay.
    """

    def __init__(self, codec: AudioCodec, patience: int = 0) -> None:
        self._codec, self._patience = codec, patience
        self._stream = StreamDecoder(codec.networks, block=1)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._stream.reset()
        self._next: int | None = None
        self._waiting: dict[int, LivePacket] = {}
        self._chain = Chain()
        self._recent = np.zeros((0, 0), np.int32)
        """The last frames that came, at most `HELD`."""
        self._run = 0
        """Latent frames that were made up since."""
        self.needs_key = False
        """Whether packets come that cannot be decoded until a key does; `Encoder.request_key` sends one."""
        self.received = Received()

    def push(self, packet: bytes) -> NDArray[np.float32]:
        """Samples (n,) at the model's rate that a packet makes ready; none when it only fills the queue.

        A damaged packet counts as lost.
        """
        try:
            found = LivePacket.unpack(packet, self._codec.stages)
        except BitstreamError:
            self.received.dropped += 1
            return np.zeros(0, np.float32)
        if self._next is None:
            self._next = found.start
        if found.start < self._next or found.start in self._waiting:
            self.received.dropped += 1
            return np.zeros(0, np.float32)
        self._waiting[found.start] = found
        return self._play(self._patience)

    def conceal(self, frames: int) -> NDArray[np.float32]:
        """Samples (n,) for latent frames that nothing came for, when the listener cannot wait any longer."""
        ready = self._play(0)
        if self._next is None:
            return ready
        self._next += frames
        return np.concatenate([ready, self._make_up(frames)])

    def flush(self) -> NDArray[np.float32]:
        """The samples of what is still waiting."""
        return np.concatenate([self._play(0), self._stream.flush()])

    def _play(self, patience: int) -> NDArray[np.float32]:
        out = [np.zeros(0, np.float32)]
        assert self._next is not None or not self._waiting
        while self._waiting and self._next is not None:
            if self._next in self._waiting:
                packet = self._waiting.pop(self._next)
                self._next += packet.frames
                out.append(self._decode(packet))
            elif len(self._waiting) > patience:
                first = min(self._waiting)
                out.append(self._make_up(first - self._next))
                self._next = first
            else:
                break
        return np.concatenate(out)

    def _decode(self, packet: LivePacket) -> NDArray[np.float32]:
        try:
            tokens = self._chain.open(self._codec, packet)
        except BitstreamError:
            self.needs_key = True
            return self._make_up(packet.frames)
        self.needs_key = False
        recent = self._recent if self._recent.shape[1] == tokens.shape[1] else tokens[:0]
        self._recent, self._run = np.concatenate([recent, tokens])[-HELD:], 0
        self.received.decoded += len(tokens)
        return self._stream.push(tokens)

    def _make_up(self, frames: int) -> NDArray[np.float32]:
        out, frame = [np.zeros(0, np.float32)], self._codec.networks.frame
        # A sender that was silent for long, or a hostile number: no more than a second is made up.
        for _ in range(min(frames, round(self._codec.frame_rate))):
            if self._run < len(self._recent):
                out.append(self._stream.push(self._recent[[-1 - self._run]]) * fade(self._run))
            else:
                out.append(np.zeros(frame, np.float32))
            self._run += 1
            self.received.concealed += 1
        return np.concatenate(out)

    def snapshot(self) -> Any:
        """The state now, for `restore`."""
        kept = (
            self._next,
            self._waiting,
            self._chain,
            self._recent,
            self._run,
            self.needs_key,
            self.received,
        )
        return copy.deepcopy((self._stream.state(), kept))

    def restore(self, state: Any) -> None:
        """Go on from a snapshot."""
        stream, kept = copy.deepcopy(state)
        self._stream.set_state(stream)
        self._next, self._waiting, self._chain, self._recent, self._run, self.needs_key, self.received = kept

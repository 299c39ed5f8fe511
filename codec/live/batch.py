"""Many live streams at once: one batch for the networks, a packet of one length for every stream.

On a server the networks cost less for a batch than for its streams one by one. Streams come and go: each is
reset by itself. Packets are those of `fsqcodec.live.packet`, so either side may be a single stream; order and
lateness are the caller's affair here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..deprecation import former_keywords, warn_of_former_name
from ..errors import BitstreamError
from ..nn.stream_state import History
from ..protocols import AudioCodec
from .concealment import Concealment
from .packet import LivePacket
from .prediction import PacketCoder
from .sender import Sender


class BatchEncoder:
    """Samples of `streams` streams in, a packet of each out.

    Args:
        codec: a model for sound, from `fsqcodec.load`.
        streams: how many.
        packet_frames: latent frames of 20 ms in a packet.
        stages: stages that are sent; all when None.
        independent_every: packets of a stream from one that decodes by itself to the next, as in
            `LiveEncoder`.
        kbps: kilobits a second of every stream, as in `LiveEncoder`.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("speech-24k")
        >>> sender, receiver = fsqcodec.BatchEncoder(codec, 3), fsqcodec.BatchDecoder(codec, 3)
        >>> packets = sender.push(np.zeros((3, sender.samples), np.float32))
        >>> len(packets), receiver.push([packets[0], None, packets[2]]).shape
        (3, (3, 960))
    """

    @former_keywords(key_every="independent_every")
    def __init__(
        self,
        codec: AudioCodec,
        streams: int,
        packet_frames: int = 2,
        stages: int | None = None,
        independent_every: int = 1,
        kbps: float | None = None,
    ) -> None:
        if streams < 1:
            raise ValueError(f"streams must be at least 1, not {streams}")
        self._networks, self._history = codec.networks, History()
        self._senders = [
            Sender(codec, packet_frames, stages, independent_every, kbps) for _ in range(streams)
        ]
        self.samples = packet_frames * codec.networks.frame
        """Samples of every stream in a packet."""

    def push(self, samples: NDArray[np.float32]) -> list[bytes]:
        """A packet of every stream, of samples (streams, `samples`) at the model's rate.

        Raises:
            ValueError: samples of another shape.
        """
        if samples.shape != (len(self._senders), self.samples):
            raise ValueError(f"samples {samples.shape}, not {(len(self._senders), self.samples)}")
        tokens = self._networks.encode(np.asarray(samples, np.float32), self._history)
        return [sender.encode(part) for sender, part in zip(self._senders, tokens, strict=True)]

    def request_independent(self, stream: int) -> None:
        """Let the next packet of stream number `stream` decode by itself."""
        self._senders[stream].request_independent()

    def request_key(self, stream: int) -> None:
        """Former name of `request_independent`."""
        warn_of_former_name("request_key", "request_independent")
        self.request_independent(stream)

    @torch.inference_mode()
    def reset(self, stream: int) -> None:
        """Stream number `stream` is a new one from the next packet on."""
        self._history.reset(stream)
        self._senders[stream].reset()


class BatchDecoder:
    """A packet of each stream in, or None where it was lost; samples of all out.

    Args:
        codec: the model that the packets were made with.
        streams: how many.
        packet_frames: latent frames in every packet.
    """

    def __init__(self, codec: AudioCodec, streams: int, packet_frames: int = 2) -> None:
        self._codec, self._frames, self._history = codec, packet_frames, History()
        self._coders = [PacketCoder() for _ in range(streams)]
        self._concealment = [Concealment(codec.stages) for _ in range(streams)]
        self.needs_independent = np.zeros(streams, bool)
        """Streams whose last packet could not be decoded, for want of one before it or because it was
        damaged; until an independent one comes."""

    @property
    def needs_key(self) -> NDArray[np.bool_]:
        """Former name of `needs_independent`."""
        warn_of_former_name("needs_key", "needs_independent")
        return self.needs_independent

    def push(self, packets: Sequence[bytes | None]) -> NDArray[np.float32]:
        """Samples float32 (streams, n) at the model's rate, late by the decoder's lag of 20 ms.

        A packet that is damaged, or of another length, counts as lost and is concealed
        (`fsqcodec.live.concealment`).

        Raises:
            ValueError: not a packet or None for every stream.
        """
        if len(packets) != len(self._coders):
            raise ValueError(f"{len(packets)} packets for {len(self._coders)} streams")
        tokens = np.zeros((len(packets), self._frames, self._codec.stages), np.int64)
        stages = np.zeros(tokens.shape[:2], np.int64)
        gains = np.ones(stages.shape, np.float32)
        for stream, packet in enumerate(packets):
            decoded = None if packet is None else self._decode(stream, packet)
            if decoded is None:
                concealed = self._concealment[stream].conceal(self._frames)
                tokens[stream], stages[stream], gains[stream] = concealed
            else:
                tokens[stream, :, : decoded.shape[1]], stages[stream] = decoded, decoded.shape[1]
                self._concealment[stream].receive(decoded)
        samples = self._codec.networks.decode(tokens, stages, self._history)
        heard: NDArray[np.float32] = samples * np.repeat(gains, self._codec.networks.frame, 1)
        return heard

    def _decode(self, stream: int, data: bytes) -> NDArray[np.int32] | None:
        try:
            packet = LivePacket.unpack(data, self._codec.stages)
            tokens = self._coders[stream].decode(self._codec, packet)
        except BitstreamError:
            self.needs_independent[stream] = True
            return None
        self.needs_independent[stream] = False
        return tokens if len(tokens) == self._frames else None

    @torch.inference_mode()
    def reset(self, stream: int) -> None:
        """Stream number `stream` is a new one from the next packet on."""
        self._history.reset(stream)
        self._coders[stream], self._concealment[stream] = PacketCoder(), Concealment(self._codec.stages)
        self.needs_independent[stream] = False

"""Many live streams at once: one batch for the networks, a packet of the same length from and for every stream.

On a server the networks cost less for a batch than for its streams one by one. Streams come and go: each is reset by
itself. Packets are those of `chain`, so either side may be a single stream; order and lateness are the caller's affair here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BitstreamError
from ..nn.stream_state import History
from ..protocols import AudioCodec
from .packet import Chain, LivePacket
from .sender import Sender
from .stream import HELD, fade


class BatchEncoder:
    """Samples of `streams` streams in, a packet of each out.

    Args:
        codec: a model for sound, from `fsqcodec.load`.
        streams: how many.
        packet_frames: latent frames of 20 ms in a packet.
        stages: stages that are sent; all when None.
        key_every: packets of a stream from one that decodes by itself to the next, as in `live.Encoder`.
        kbps: kilobits a second of every stream, as in `live.Encoder`.

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

    def __init__(
        self,
        codec: AudioCodec,
        streams: int,
        packet_frames: int = 2,
        stages: int | None = None,
        key_every: int = 1,
        kbps: float | None = None,
    ) -> None:
        if streams < 1:
            raise ValueError(f"streams must be at least 1, not {streams}")
        self._networks, self._history = codec.networks, History()
        self._senders = [Sender(codec, packet_frames, stages, key_every, kbps) for _ in range(streams)]
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
        return [sender.close(part) for sender, part in zip(self._senders, tokens, strict=True)]

    def request_key(self, stream: int) -> None:
        """Let the next packet of stream number `stream` decode by itself."""
        self._senders[stream].request_key()

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
        self._recent = np.zeros((streams, HELD, codec.stages), np.int64)
        """The last latent frames that were received, the latest first."""
        self._known = np.zeros((streams, HELD), np.int64)
        """Their stages, 0 where there is no frame."""
        self._run = np.zeros(streams, np.int64)
        """Latent frames that were made up since."""
        self._chains = [Chain() for _ in range(streams)]
        self.needs_key = np.zeros(streams, bool)
        """Streams whose last packet could not be decoded, for want of one before it or because it was damaged; until a key comes."""

    def push(self, packets: Sequence[bytes | None]) -> NDArray[np.float32]:
        """Samples float32 (streams, n) at the model's rate, late by the decoder's lag of 20 ms.

        A packet that is damaged, or of another length, counts as lost: the latents before it come once more, backwards and ever softer.

        Raises:
            ValueError: not a packet or None for every stream.
        """
        if len(packets) != len(self._run):
            raise ValueError(f"{len(packets)} packets for {len(self._run)} streams")
        tokens = np.zeros((len(packets), self._frames, self._codec.stages), np.int64)
        stages = np.zeros(tokens.shape[:2], np.int64)
        gains = np.ones(stages.shape, np.float32)
        for stream, packet in enumerate(packets):
            found = None if packet is None else self._tokens(stream, packet)
            if found is None:
                run = self._run[stream] + np.arange(self._frames)
                gains[stream], back = fade(run), np.minimum(run, HELD - 1)
                tokens[stream], stages[stream] = self._recent[stream, back], self._known[stream, back]
                stages[stream, run >= HELD] = 0
                self._run[stream] += self._frames
            else:
                tokens[stream, :, : found.shape[1]] = found
                stages[stream], self._run[stream] = found.shape[1], 0
                for kept, new in ((self._recent, tokens), (self._known, stages)):
                    kept[stream] = np.concatenate([new[stream, ::-1], kept[stream]])[:HELD]
        gains[stages == 0] = 0
        samples = self._codec.networks.decode(tokens, stages, self._history)
        heard: NDArray[np.float32] = samples * np.repeat(gains, self._codec.networks.frame, 1)
        return heard

    def _tokens(self, stream: int, data: bytes) -> NDArray[np.int32] | None:
        try:
            packet = LivePacket.unpack(data, self._codec.stages)
            tokens = self._chains[stream].open(self._codec, packet)
        except BitstreamError:
            self.needs_key[stream] = True
            return None
        self.needs_key[stream] = False
        return tokens if len(tokens) == self._frames else None

    @torch.inference_mode()
    def reset(self, stream: int) -> None:
        """Stream number `stream` is a new one from the next packet on."""
        self._history.reset(stream)
        self._known[stream] = self._run[stream] = self._recent[stream] = 0
        self._chains[stream], self.needs_key[stream] = Chain(), False

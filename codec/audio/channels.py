"""Channels of sound ↔ streams of tokens: mid and side, and one encoder or decoder a stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..media.audio import Resampler, Samples
from .chunked import StreamDecoder, StreamEncoder, latent_frames
from .header import AudioHeader
from .networks import AudioNetworks
from .tokens import TokenPacket


def mid_side(block: Samples) -> Samples:
    """Two channels as their half sum and half difference; any other number as they are."""
    return left_right(block) * np.float32(0.5) if len(block) == 2 else block


def left_right(block: Samples) -> Samples:
    """Inverse of `mid_side` for two channels."""
    return np.stack([block[0] + block[1], block[0] - block[1]])


def sample_of(frame: int, networks: AudioNetworks, sample_rate: int) -> int:
    """The sample, at an original's rate, that a latent frame begins with."""
    return frame * networks.frame * sample_rate // networks.sample_rate


class ChannelsEncoder:
    """Samples of all channels in, tokens of all streams at the end; two channels are coded as mid and side.

    Args:
        networks: of the codec.
        channels: how many there are.
        dtype: integers that hold tokens.
    """

    def __init__(self, networks: AudioNetworks, channels: int, dtype: np.dtype[np.integer]) -> None:
        self._networks, self._dtype = networks, dtype
        self._encoders = [StreamEncoder(networks) for _ in range(channels)]
        self._parts: list[list[NDArray[np.integer]]] = [[] for _ in range(channels)]
        self._pushed = 0

    def push(self, block: Samples) -> None:
        """Samples (channels, n) at the model's rate."""
        self._pushed += block.shape[1]
        for rows, encoder, signal in zip(self._parts, self._encoders, mid_side(block), strict=True):
            rows.append(encoder.push(signal).astype(self._dtype))

    def finish(self, samples: int, sample_rate: int) -> NDArray[np.integer]:
        """Tokens (streams, stages, frames) of an original of `samples` samples a channel at `sample_rate` Hz."""
        # Rate conversion may round the last sample away: tokens must cover what the decoder has to return.
        missing = max(0, -(-samples * self._networks.sample_rate // sample_rate) - self._pushed)
        for rows, encoder in zip(self._parts, self._encoders, strict=True):
            rows.append(encoder.push(np.zeros(missing, np.float32)).astype(self._dtype))
            rows.append(encoder.flush().astype(self._dtype))
        frames = sum(map(len, self._parts[0]))
        tokens = np.empty((len(self._parts), frames, self._networks.stages), self._dtype)
        for stream, rows in zip(tokens, self._parts, strict=True):
            np.concatenate(rows, out=stream)
            rows.clear()
        return tokens.transpose(0, 2, 1)


class ChannelsDecoder:
    """Packets of all streams in, samples of all channels out, at the original's rate; lost frames are silence.

    Args:
        networks: of the codec.
        header: facts of the original.
        stages: decode at most this many.
        first: latent frame that the packets begin with; the samples begin with its first one.
    """

    def __init__(
        self, networks: AudioNetworks, header: AudioHeader, stages: int | None = None, first: int = 0
    ) -> None:
        self._networks, self._header, self._stages = networks, header, stages
        self._decoders = [StreamDecoder(networks) for _ in range(header.channels)]
        self._ends = [first] * header.channels
        self._waiting = [np.zeros(0, np.float32)] * header.channels
        self._resampler = Resampler(header.channels, networks.sample_rate, header.sample_rate)
        self._given = sample_of(first, networks, header.sample_rate)
        """Samples of the original up to here."""

    def push(self, packet: TokenPacket) -> Samples:
        """Samples (channels, n) that are finished after a packet; a gap before it stands for lost frames."""
        stream = packet.stream
        decoder = self._decoders[stream]
        whole = len(packet.tokens) - packet.tail
        self._keep(stream, _lose(decoder, packet.start - self._ends[stream]))
        self._keep(stream, decoder.push(packet.tokens[:whole], self._stages))
        self._keep(stream, decoder.push(packet.tokens[whole:, :-1], self._stages))
        self._ends[stream] = packet.start + len(packet.tokens)
        return self._cut(self._resampler.push(self._ready()))

    def finish(self) -> Samples:
        """The samples (channels, n) that are still to come after the last packet."""
        longest, header = max(self._ends), self._header
        for stream, decoder in enumerate(self._decoders):
            self._keep(stream, _lose(decoder, longest - self._ends[stream]))
            self._keep(stream, decoder.flush())
        blocks = [self._cut(self._resampler.push(self._ready())), self._cut(self._resampler.flush())]
        if header.samples is not None:
            length = -(-header.samples * self._networks.sample_rate // header.sample_rate)
            if longest >= latent_frames(length, self._networks):
                # The rate converter may end a sample early.
                rest = max(0, header.samples - self._given)
                blocks.append(self._cut(np.zeros((header.channels, rest), np.float32)))
        return np.concatenate(blocks, axis=1)

    def _keep(self, stream: int, samples: NDArray[np.float32]) -> None:
        self._waiting[stream] = np.concatenate([self._waiting[stream], samples])

    def _ready(self) -> Samples:
        """What every stream has by now, as channels at the model's rate."""
        count = min(map(len, self._waiting))
        block = np.stack([signal[:count] for signal in self._waiting])
        self._waiting = [signal[count:] for signal in self._waiting]
        return left_right(block) if self._header.mid_side else block

    def _cut(self, block: Samples) -> Samples:
        """No more samples than the original has."""
        if self._header.samples is not None:
            block = block[:, : max(0, self._header.samples - self._given)]
        self._given += block.shape[1]
        return block


def _lose(decoder: StreamDecoder, frames: int) -> NDArray[np.float32]:
    return decoder.push(np.zeros((frames, 0), np.int64))

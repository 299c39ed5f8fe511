"""Channels of sound ↔ streams of tokens: two channels by what is in them, and one encoder or decoder a stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..media.audio import Resampler, Samples
from .chunked import StreamDecoder, StreamEncoder, latent_frames
from .header import AudioHeader
from .networks import AudioNetworks
from .tokens import StereoRun, TokenPacket

_STRETCH = 250
"""Latent frames that are analysed together: those of a packet."""
_LIKELY, _LASTING = 0.6, 1.5
"""Product of the energies of mid and side against that of left and right, up to which they are taken; and by what factor
what was chosen before is favoured."""


def to_streams(block: Samples, mid_side: bool) -> Samples:
    """Two channels as their half sum and half difference where that is asked; otherwise as they are."""
    return to_channels(block, mid_side) * np.float32(0.5) if mid_side else block


def to_channels(block: Samples, mid_side: bool) -> Samples:
    """Inverse of `to_streams`."""
    return np.stack([block[0] + block[1], block[0] - block[1]]) if mid_side else block


def streams_of(signal: Samples, stereo: Sequence[StereoRun], frame: int) -> Samples:
    """The streams (channels, n) that a whole signal at the model's rate is coded as, `frame` samples a latent frame."""
    edges = [*(run.start * frame for run in stereo[1:]), signal.shape[1]]
    if not stereo:
        return signal
    parts = [
        to_streams(signal[:, start * frame : end], mode)
        for (start, mode), end in zip(stereo, edges, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def prefers_mid_side(block: Samples, before: bool | None) -> bool:
    """Whether mid and side cost less than left and right.

    Bits follow the logarithm of the energies: the smaller product wins. Two voices, one left, one right, have equal
    products and would both be heard through the other's noise, so mid and side must be clearly less; what was chosen
    before is kept where it is close.

    Args:
        block: samples (2, n).
        before: what was chosen before it.
    """
    left, right = (float(np.square(channel, dtype=np.float64).sum()) for channel in block)
    mid, side = (float(np.square(stream, dtype=np.float64).sum()) * 2 for stream in to_streams(block, True))
    if max(left, right) == 0:
        return before is not False
    bound = _LIKELY if before is None else _LIKELY * (_LASTING if before else 1 / _LASTING)
    return mid * side <= bound * left * right


def sample_of(frame: int, networks: AudioNetworks, sample_rate: int) -> int:
    """The sample, at an original's rate, that a latent frame begins with."""
    return frame * networks.frame * sample_rate // networks.sample_rate


class ChannelsEncoder:
    """Samples of all channels in, tokens of all streams at the end; two channels are coded as analysis says.

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
        self._waiting: list[Samples] = []
        """Samples of two channels that wait to be analysed."""
        self._stretch = _STRETCH * networks.frame
        self._coded = 0
        self.stereo: list[StereoRun] = []
        """How two channels are coded."""

    def push(self, block: Samples) -> None:
        """Samples (channels, n) at the model's rate."""
        self._pushed += block.shape[1]
        if len(self._encoders) != 2:
            self._encode(block)
            return
        self._waiting.append(block)
        if self._pushed - self._coded >= self._stretch:
            waiting = np.concatenate(self._waiting, axis=1)
            whole = waiting.shape[1] // self._stretch * self._stretch
            for start in range(0, whole, self._stretch):
                self._encode_pair(waiting[:, start : start + self._stretch])
            self._waiting = [waiting[:, whole:]]

    def _encode_pair(self, block: Samples) -> None:
        before = self.stereo[-1].mid_side if self.stereo else None
        rest = before is not None and block.shape[1] < self._stretch // 2
        mode = bool(before) if rest else prefers_mid_side(block, before)
        if mode != before:
            self.stereo.append(StereoRun(self._coded // self._networks.frame, mode))
        self._coded += block.shape[1]
        self._encode(to_streams(block, mode))

    def _encode(self, block: Samples) -> None:
        for rows, encoder, signal in zip(self._parts, self._encoders, block, strict=True):
            rows.append(encoder.push(signal).astype(self._dtype))

    def finish(self, samples: int, sample_rate: int) -> NDArray[np.integer]:
        """Tokens (streams, stages, frames) of an original of `samples` samples a channel at `sample_rate` Hz."""
        if self._waiting:
            self._encode_pair(np.concatenate(self._waiting, axis=1))
        # Rate conversion may round the last sample away: tokens must cover what the decoder has to return.
        missing = max(0, -(-samples * self._networks.sample_rate // sample_rate) - self._pushed)
        self._encode(np.zeros((len(self._encoders), missing), np.float32))
        for rows, encoder in zip(self._parts, self._encoders, strict=True):
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
        self._modes = [StereoRun(first, header.mid_side)]
        self._made = first * networks.frame
        """Samples of the streams up to here, at the model's rate."""
        self._given = sample_of(first, networks, header.sample_rate)
        """Samples of the original up to here."""

    def push(self, packet: TokenPacket) -> Samples:
        """Samples (channels, n) that are finished after a packet; a gap before it stands for lost frames."""
        stream = packet.stream
        decoder = self._decoders[stream]
        mode = self._header.mid_side if packet.mid_side is None else packet.mid_side
        if mode != self._modes[-1].mid_side:
            self._modes.append(StereoRun(packet.start, mode))
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
        start, self._made = self._made, self._made + count
        while len(self._modes) > 1 and self._modes[1].start * self._networks.frame <= start:
            del self._modes[0]
        edges = [run.start * self._networks.frame - start for run in self._modes[1:]]
        edges = [0, *(edge for edge in edges if edge < count), count]
        parts = [
            to_channels(block[:, a:b], run.mid_side)
            for (a, b), run in zip(pairwise(edges), self._modes, strict=False)
        ]
        return np.concatenate(parts, axis=1)

    def _cut(self, block: Samples) -> Samples:
        """No more samples than the original has."""
        if self._header.samples is not None:
            block = block[:, : max(0, self._header.samples - self._given)]
        self._given += block.shape[1]
        return block


def _lose(decoder: StreamDecoder, frames: int) -> NDArray[np.float32]:
    return decoder.push(np.zeros((frames, 0), np.int64))

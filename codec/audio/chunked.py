"""Stateful encoder and decoder of one audio stream, for files and for live use alike.

The networks always run on blocks of the same number of latent frames, with state carried between blocks:
the kernels see the same shapes whatever sizes the caller feeds, so the tokens are the same integers. A
last, partial block is filled up with zeros and what is too much is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..nn.stream_state import History
from .networks import AudioNetworks

BLOCK = 50
"""Latent frames in a block of the file path: one second."""


def latent_frames(samples: int, networks: AudioNetworks) -> int:
    """Latent frames that carry `samples` samples, the decoder's lag included."""
    return -(-(samples + networks.lag) // networks.frame) if samples else 0


@dataclass
class EncoderState:
    """All that later samples' tokens depend on."""

    past: dict[str, Tensor]
    """Of the encoder's causal layers."""
    waiting: NDArray[np.float32]
    pushed: int
    emitted: int


@dataclass
class DecoderState:
    """All that later tokens' samples depend on."""

    past: dict[str, Tensor]
    """Of the decoder's causal layers."""
    tokens: NDArray[np.int64]
    stages: NDArray[np.int64]
    lag: int


class StreamEncoder:
    """Samples in, tokens out.

    Args:
        networks: of the codec.
        block: latent frames in a block; tokens come out by whole blocks. Small blocks give short delays;
            tokens of different block sizes may differ where a latent lies on the border of two cells.
    """

    def __init__(self, networks: AudioNetworks, block: int = BLOCK) -> None:
        self._networks, self._block = networks, block
        self._size = block * networks.frame
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._history = History()
        self._waiting = np.zeros(0, np.float32)
        self._pushed = self._emitted = 0

    def state(self) -> EncoderState:
        """All that later samples depend on; tensors and arrays by name."""
        past = self._networks.state_dict(True, self._history)
        return EncoderState(past, self._waiting, self._pushed, self._emitted)

    def set_state(self, state: EncoderState) -> None:
        """Go on from what `state` gave."""
        self._history = self._networks.load_state_dict(True, state.past)
        self._waiting, self._pushed, self._emitted = state.waiting, state.pushed, state.emitted

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """Samples (n,) at the model's rate, any n → tokens (frames, stages) of the blocks now complete."""
        self._pushed += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        tokens = []
        while len(self._waiting) >= self._size:
            tokens.append(self._encode(self._waiting[: self._size]))
            self._waiting = self._waiting[self._size :]
        return self._emit(tokens, self._block * len(tokens))

    def flush(self) -> NDArray[np.int64]:
        """The tokens that are still to come after the last sample; the stream ends here."""
        missing = latent_frames(self._pushed, self._networks) - self._emitted
        blocks = -(-missing // self._block)
        rest = np.zeros(blocks * self._size, np.float32)
        rest[: len(self._waiting)] = self._waiting
        self._waiting = self._waiting[:0]
        return self._emit([self._encode(part) for part in rest.reshape(blocks, self._size)], missing)

    def _encode(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        tokens: NDArray[np.int64] = self._networks.encode(samples[None], self._history)[0]
        return tokens

    def _emit(self, tokens: list[NDArray[np.int64]], frames: int) -> NDArray[np.int64]:
        self._emitted += frames
        empty = np.zeros((0, self._networks.stages), np.int64)
        return np.concatenate([empty, *tokens])[:frames]


class StreamDecoder:
    """Tokens in, samples out.

    Args:
        networks: of the codec.
        block: latent frames that are decoded together; of fewer than `BLOCK`, as many blocks as there are.
    """

    def __init__(self, networks: AudioNetworks, block: int = BLOCK) -> None:
        self._networks, self._block = networks, block
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._history = History()
        self._tokens = np.zeros((0, self._networks.stages), np.int64)
        self._stages = np.zeros(0, np.int64)
        self._lag = self._networks.lag

    def state(self) -> DecoderState:
        """All that later tokens' samples depend on; tensors and arrays by name."""
        past = self._networks.state_dict(False, self._history)
        return DecoderState(past, self._tokens, self._stages, self._lag)

    def set_state(self, state: DecoderState) -> None:
        """Go on from what `state` gave."""
        self._history = self._networks.load_state_dict(False, state.past)
        self._tokens, self._stages, self._lag = state.tokens, state.stages, state.lag

    def push(self, tokens: NDArray[np.integer], stages: int | None = None) -> NDArray[np.float32]:
        """Tokens (frames, n) of a prefix of n stages, any number of frames → samples (m,) now finished.

        `stages` decodes fewer than n stages. The first sample that ever comes out is the first sample of
        the stream; n = 0 stands for lost frames.
        """
        n = tokens.shape[1] if stages is None else min(stages, tokens.shape[1])
        padded = np.zeros((len(tokens), self._tokens.shape[1]), np.int64)
        padded[:, :n] = tokens[:, :n]
        self._tokens = np.concatenate([self._tokens, padded])
        self._stages = np.concatenate([self._stages, np.full(len(tokens), n)])
        samples = []
        while len(self._tokens) >= self._block:
            size = min(len(self._tokens), max(BLOCK, self._block)) // self._block * self._block
            samples.append(self._decode(self._tokens[:size], self._stages[:size]))
            self._tokens, self._stages = self._tokens[size:], self._stages[size:]
        return np.concatenate([np.zeros(0, np.float32), *samples])

    def flush(self) -> NDArray[np.float32]:
        """The samples that the last tokens finish; the stream ends here."""
        missing = len(self._tokens)
        lead = self._lag
        filled = self.push(np.zeros((-missing % self._block, 0), np.int64))
        return filled[: max(0, missing * self._networks.frame - lead)]

    def _decode(self, tokens: NDArray[np.int64], stages: NDArray[np.int64]) -> NDArray[np.float32]:
        samples = self._networks.decode(tokens[None], stages[None], self._history)[0]
        cut, self._lag = min(self._lag, len(samples)), max(0, self._lag - len(samples))
        lost = np.repeat(stages == 0, self._networks.frame)
        samples = np.where(lost, np.float32(0), samples)
        return samples[cut:]

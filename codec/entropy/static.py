"""Static frequency tables: the range coder's model of tokens when there is no learned prior.

One row of integer frequencies for every stage, channel and context, estimated from training tokens. The
context of a digit is the digit of the same channel one pass before (coarser grid); the first pass has none.
So the table of a stage needs earlier stages only, and trailing stages can always be dropped.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BitstreamError, ModelError
from ..quantization.digits import pack, radix_of, unpack
from ..quantization.residual_fsq import ResidualFSQ
from . import range_coder
from .range_coder import TOTAL, Frequencies


class StaticTables:
    """Codes tokens of a quantizer under frequencies int32 (stages, d, L, L): stage, channel, context, digit.

    Raises:
        ModelError: the frequencies do not fit the quantizer, or break the range coder's rules.
    """

    def __init__(self, frequencies: NDArray[np.int32], quantizer: ResidualFSQ) -> None:
        levels = np.array(quantizer.group_levels)
        shape = (quantizer.stages, len(levels), levels.max(), levels.max())
        if frequencies.shape != shape or frequencies.dtype != np.int32:
            raise ModelError(f"tables of shape {frequencies.shape} where the quantizer needs {shape}")
        try:
            range_coder.check_frequencies(frequencies)
        except ValueError as error:
            raise ModelError(f"tables: {error}") from None
        self.frequencies, self.levels, self.groups = frequencies, levels, quantizer.groups
        self.radix = np.array(radix_of(quantizer.group_levels))
        self.hash = hashlib.sha256(frequencies.astype("<i4").tobytes()).digest()[:4]

    @classmethod
    def estimate(cls, tokens: Tensor, quantizer: ResidualFSQ) -> StaticTables:
        """Tables of the frequencies seen in tokens int64 (frames, stages)."""
        digits = quantizer.unpack(tokens)  # passes, frames, D
        width, deepest = len(quantizer.group_levels), max(quantizer.group_levels)
        counts = torch.full((quantizer.stages, width, deepest, deepest), 0.5, dtype=torch.float64)
        for stage in range(quantizer.stages):
            number, group = divmod(stage, quantizer.groups)
            for c in range(width):
                channel = group * width + c
                digit = digits[number, :, channel]
                context = digits[number - 1, :, channel] if number else torch.zeros_like(digit)
                pairs = torch.bincount(context * deepest + digit, minlength=deepest**2)
                counts[stage, c] += pairs.reshape(deepest, deepest)
                counts[stage, c, :, quantizer.group_levels[c] :] = 0
        return cls(normalise(counts.numpy()), quantizer)

    def encode_layers(self, tokens: NDArray[np.integer], stages_per_layer: int, tail: int = 0) -> list[bytes]:
        """Messages of the layers of one packet's tokens (frames, n), the last stage of the last `tail` frames
        left out."""
        edges = [*range(0, tokens.shape[1], stages_per_layer), tokens.shape[1]]
        exact = tokens.astype(np.int32)
        return [self.encode(exact, a, b, tail) for a, b in itertools.pairwise(edges)]

    def decode_layers(
        self, messages: Sequence[bytes], frames: int, stages: int, stages_per_layer: int, tail: int = 0
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of the first layers of a packet; inverse of `encode_layers`.

        Raises:
            BitstreamError: no encoder wrote these messages.
        """
        tokens = np.zeros((frames, stages), np.int32)
        for message, first in zip(messages, range(0, stages, stages_per_layer), strict=True):
            self.decode(message, tokens, first, min(first + stages_per_layer, stages), tail)
        return tokens

    def encode_whole(self, tokens: NDArray[np.integer], past: NDArray[np.integer] | None = None) -> bytes:
        """One message of all stages of one packet's tokens (frames, n), whatever is past."""
        return self.encode(tokens.astype(np.int32), 0, tokens.shape[1])

    def decode_whole(
        self, message: bytes, frames: int, stages: int, past: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """Tokens int32 (frames, stages) of a packet; inverse of `encode_whole`.

        Raises:
            BitstreamError: no encoder wrote this message.
        """
        return self.decode_layers([message], frames, stages, stages)

    def encode(self, tokens: NDArray[np.int32], first: int, last: int, tail: int = 0) -> bytes:
        """Message of the stages first … last-1 of tokens int32 (frames, stages), without the tail of the last
        of all."""
        digits = np.concatenate([self._digits(tokens, stage) for stage in range(first, last)])
        rows = np.concatenate([self._rows(tokens, stage) for stage in range(first, last)])
        coded = self._coded(tokens, first, last, tail)
        return range_coder.encode(digits[:coded], rows[:coded])

    def decode(self, message: bytes, tokens: NDArray[np.int32], first: int, last: int, tail: int = 0) -> None:
        """Read the stages first … last-1 of a message into tokens int32 (frames, stages), in place.

        Earlier stages must be there. A message may hold more stages; they are left unread. The tail of the
        last stage of all gets the middle cells.

        Raises:
            BitstreamError: no encoder wrote this message.
        """
        # A stage one pass later needs digits of this message: read up to a whole pass more at a time. The
        # coder begins at the message's beginning each time, so known stages are read again.
        for start in range(first, last, self.groups):
            stop = min(start + self.groups, last)
            rows = np.concatenate([self._rows(tokens, stage) for stage in range(first, stop)])
            digits = np.tile(self.levels // 2, (stop - first, len(tokens), 1))
            coded = self._coded(tokens, first, stop, tail)
            digits.reshape(-1)[:coded] = range_coder.decode(message, rows[:coded])
            if (digits >= self.levels).any():
                raise BitstreamError("a digit beyond its number of levels")
            tokens[:, start:stop] = pack(digits[start - first :], self.radix).T

    def bits(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        """Ideal code lengths of tokens int32 (frames, n): bits (frames, n)."""
        lengths = []
        for stage in range(tokens.shape[1]):
            rows, digits = self._rows(tokens, stage), self._digits(tokens, stage)
            chosen = np.take_along_axis(rows, digits[:, None].astype(np.int64), axis=1)
            lengths.append(-np.log2(chosen / TOTAL).reshape(len(tokens), -1).sum(1))
        return np.stack(lengths, 1)

    def _coded(self, tokens: NDArray[np.integer], first: int, last: int, tail: int) -> int:
        """Digits of the stages first … last-1 that are in their message: the tail would be the last ones."""
        frames = (last - first) * len(tokens) - (tail if last == tokens.shape[1] else 0)
        return frames * len(self.levels)

    def _digits(self, tokens: NDArray[np.integer], stage: int) -> NDArray[np.int32]:
        digits = unpack(tokens[:, stage], self.radix, self.levels)
        return cast("NDArray[np.int32]", digits.astype(np.int32).ravel())

    def _rows(self, tokens: NDArray[np.integer], stage: int) -> Frequencies:
        width = len(self.levels)
        if stage < self.groups:
            return np.tile(self.frequencies[stage, :, 0], (len(tokens), 1))
        context = self._digits(tokens, stage - self.groups).reshape(-1, width)
        return cast(
            Frequencies, self.frequencies[stage][np.arange(width), context].reshape(-1, self.levels.max())
        )


def normalise(counts: NDArray[np.float64]) -> NDArray[np.int32]:
    """Integer frequencies ≥ 1 with row sums 2^24, in proportion to counts (..., L)."""
    width = counts.shape[-1]
    share = counts / counts.sum(-1, keepdims=True)
    frequencies = np.floor(share * (TOTAL - width)).astype(np.int64) + 1
    largest = frequencies.argmax(-1)[..., None]
    rest = TOTAL - frequencies.sum(-1, keepdims=True)
    np.put_along_axis(frequencies, largest, np.take_along_axis(frequencies, largest, -1) + rest, -1)
    rows: NDArray[np.int32] = frequencies.astype(np.int32)
    return rows

"""Which positions of a frame are as they were in the frame before: one flag each, ahead of all tokens.

Without it, what does not move costs bits in every channel: each is told to be the same, a little. Flags are
coded row by row under counts that adapt (Krichevsky and Trofimov 1981), in contexts of three flags above and
five of the frame before: whole rows at once, in integers, so that every machine finds the same frequencies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..entropy import range_coder

Mask = NDArray[np.bool_]
PATIENCE = 14.0
"""Growth of a position's squared error, in its channels' finest cells, that the encoder takes for the bits
which a skipped position saves: about a hundred, and near the optimum a bit is worth a tenth of a cell
squared."""
_CONTEXTS = 4 * 2 * 4
_MOST = 1 << 12
"""Counts are halved here: films change."""


class Skips:
    """Codes the masks (h, w) of a group's frames after the first, one after the other."""

    def __init__(self, height: int, width: int) -> None:
        self._counts = np.ones((_CONTEXTS, 2), np.int64)
        self._last = np.zeros((height, width), np.bool_)

    def encode(self, coder: range_coder.Encoder | range_coder.ReferenceEncoder, mask: Mask) -> None:
        """Code the next frame's mask."""
        for row in range(len(mask)):
            contexts = self._contexts(row, mask)
            coder.push(mask[row].astype(np.int32), self._frequencies(contexts))
            self._learn(contexts, mask[row])
        self._last = mask

    def decode(self, decoder: range_coder.Decoder | range_coder.ReferenceDecoder) -> Mask:
        """The next frame's mask.

        Raises:
            BitstreamError: no encoder wrote this message.
        """
        mask = np.zeros_like(self._last)
        for row in range(len(mask)):
            contexts = self._contexts(row, mask)
            mask[row] = decoder.pull(self._frequencies(contexts)) > 0
            self._learn(contexts, mask[row])
        self._last = mask
        return mask

    def _contexts(self, row: int, mask: Mask) -> NDArray[np.int64]:
        """Context (w,) of each flag of a row, from the rows above it and the frame before."""

        def three(flags: Mask) -> NDArray[np.int64]:
            padded = np.pad(flags.astype(np.int64), 1)
            return padded[:-2] + padded[1:-1] + padded[2:]

        nothing = np.zeros(mask.shape[1], np.bool_)
        above = three(mask[row - 1]) if row else three(nothing)
        sides = three(self._last[row]) - self._last[row]
        below = self._last[row + 1] if row + 1 < len(mask) else nothing
        context: NDArray[np.int64] = (above * 2 + self._last[row]) * 4 + sides + below
        return context

    def _frequencies(self, contexts: NDArray[np.int64]) -> range_coder.Frequencies:
        """Rows int32 (w, 2)."""
        counts = 2 * self._counts[contexts] - 1  # half a count for each flag that was not seen
        skip = 1 + counts[:, 1] * (range_coder.TOTAL - 2) // counts.sum(1)
        rows: range_coder.Frequencies = np.stack([range_coder.TOTAL - skip, skip], 1).astype(np.int32)
        return rows

    def _learn(self, contexts: NDArray[np.int64], flags: Mask) -> None:
        np.add.at(self._counts, (contexts, flags.astype(np.int64)), 1)
        self._counts[self._counts.max(1) > _MOST] //= 2
        np.maximum(self._counts, 1, out=self._counts)

"""What the prior of coefficients looks at: magnitudes of integers that are decoded already.

Six features of every coefficient, in eighths of an octave of one plus a weighted sum of magnitudes: the two next lower
ones of its block, the five next lower ones, three and nine around it in the block before, three of the block before
that, three of mid for side. Blocks of different length meet on the finest grid: a coefficient of a 4×240 block lies
at four places of a 1×960 block, and stands there for all.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .bands import CODED
from .transform import BLOCKS

FEATURES = 6
LOG = np.round(8 * np.log2(1 + np.arange(1 << 14) / 4)).astype(np.uint8)
"""By four times a sum."""
_BLOCKS = np.array(BLOCKS)


@numba.njit(cache=True, parallel=True)
def _features(
    integers: NDArray[np.int32],
    types: NDArray[np.uint8],
    counts: NDArray[np.int64],
    log: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    batch, frames, channels, size = integers.shape
    most = len(log) - 1
    for item in numba.prange(batch):
        last = np.zeros((channels, size), np.int32)
        older = np.zeros((channels, size), np.int32)
        one = np.zeros(size + 10, np.int32)  # sums by coefficient of a block, five zeros on both sides
        two = np.zeros(size + 10, np.int32)
        mid = np.zeros(size + 10, np.int32)
        now = np.zeros(size + 10, np.int32)
        for frame in range(frames):
            blocks = counts[types[item, frame]]
            bins, share = size // blocks, 4 // blocks
            for block in range(blocks):
                for channel in range(channels):
                    one[bins + 5 : bins + 10] = 0
                    two[bins + 5 : bins + 10] = 0
                    mid[bins + 5 : bins + 10] = 0
                    for k in range(bins):
                        total, before = 0, 0
                        for place in range(k * blocks, (k + 1) * blocks):
                            total += last[channel, place]
                            before += older[channel, place]
                        one[k + 5] = total * share
                        two[k + 5] = before * share
                        now[k + 5] = 4 * abs(integers[item, frame, channel, k * blocks + block])
                    if channel:
                        for k in range(bins):
                            mid[k + 5] = 4 * abs(integers[item, frame, 0, k * blocks + block])
                    wide = one[5] + one[6] + one[7] + one[8]
                    below = 0
                    for k in range(bins):
                        c = k + 5
                        wide += one[c + 4]
                        row = out[item, frame, channel, k * blocks + block]
                        row[0] = log[min(most, 2 * now[c - 1] + now[c - 2])]
                        row[1] = log[min(most, below)]
                        row[2] = log[min(most, one[c - 1] + 2 * one[c] + one[c + 1])]
                        row[3] = log[min(most, wide)]
                        row[4] = log[min(most, two[c - 1] + two[c] + two[c + 1])]
                        row[5] = log[min(most, mid[c - 1] + 2 * mid[c] + mid[c + 1])] if channel else 0
                        wide -= one[c - 4]
                        below += now[c]
                        if k >= 5:
                            below -= now[c - 5]
                for channel in range(channels):
                    for k in range(bins):
                        value = abs(integers[item, frame, channel, k * blocks + block])
                        for place in range(k * blocks, (k + 1) * blocks):
                            older[channel, place] = last[channel, place]
                            last[channel, place] = value


def features(integers: NDArray[np.int32], types: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Features, uint8 (batch, frames, channels, 800, 6), of integers (batch, frames, channels, 800).

    types: block types (batch, frames). Every item begins without a past.
    """
    assert integers.shape[-1] == CODED
    out = np.empty((*integers.shape, FEATURES), np.uint8)
    _features(integers, types, _BLOCKS, LOG, out)
    return out

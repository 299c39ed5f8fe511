"""Rate-distortion rounding: integers that are worth their bits, chosen in the order in which they are coded.

A coefficient takes the nearest integer, the next smaller one, or zero, whichever has the least squared error in steps
plus code length, at the contexts that the choices before have made. What a choice does to later contexts is left out.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .context import LOG
from .transform import BLOCKS

Floats = NDArray[np.float32]
_BLOCKS = np.array(BLOCKS)


@numba.njit(cache=True, fastmath=True)
def _length(lengths: Floats, row: float, size: int) -> float:
    symbols = lengths.shape[1]
    lower = min(int(row), lengths.shape[0] - 2)
    symbol = min(size, symbols - 1)
    found = lengths[lower, symbol] + (row - lower) * (lengths[lower + 1, symbol] - lengths[lower, symbol])
    if size > 0:
        found += 1
    if size >= symbols - 1:
        found += 2 * np.floor(np.log2(size - symbols + 2)) + 1
    return found


@numba.njit(cache=True, fastmath=True)
def _choose(
    scaled: Floats,
    types: NDArray[np.uint8],
    scales: Floats,
    band_of: NDArray[np.int64],
    first: Floats,
    bias: Floats,
    out: Floats,
    out_bias: float,
    lengths: Floats,
    worth: float,
    counts: NDArray[np.int64],
    log: NDArray[np.uint8],
    integers: NDArray[np.int32],
) -> float:
    frames, channels, size = scaled.shape
    most, hidden = len(log) - 1, len(bias)
    last = np.zeros((channels, size), np.int32)
    older = np.zeros((channels, size), np.int32)
    one = np.zeros(size + 10, np.int32)
    two = np.zeros(size + 10, np.int32)
    mid = np.zeros(size + 10, np.int32)
    now = np.zeros(size + 10, np.int32)
    told = np.zeros(12, np.float32)
    units = np.zeros(hidden, np.float32)
    total_bits = 0.0
    for frame in range(frames):
        blocks = counts[types[frame]]
        bins, share = size // blocks, 4 // blocks
        for block in range(blocks):
            slot = block * share
            for channel in range(channels):
                one[bins + 5 : bins + 10] = 0
                two[bins + 5 : bins + 10] = 0
                for k in range(bins):
                    total, before = 0, 0
                    for place in range(k * blocks, (k + 1) * blocks):
                        total += last[channel, place]
                        before += older[channel, place]
                    one[k + 5] = total * share
                    two[k + 5] = before * share
                if channel:
                    mid[:] = now
                    mid[bins + 5 : bins + 10] = 0
                wide = one[5] + one[6] + one[7] + one[8]
                below = 0
                band = -1
                for k in range(bins):
                    c = k + 5
                    place = k * blocks + block
                    wide += one[c + 4]
                    if band_of[place] != band:
                        band = band_of[place]
                        own = scales[frame, channel, slot, band]
                        if slot > 0:
                            past = scales[frame, channel, slot - 1, band]
                        elif frame > 0:
                            past = scales[frame - 1, channel, 3, band]
                        else:
                            past = own
                        across = scales[frame, 0, slot, band] - own
                        told[6] = own / 64
                        told[7] = min(32, max(-32, own - past)) / 32
                        told[8] = min(32, max(-32, across)) / 32
                        told[9] = channel
                        told[10] = band / 27
                        told[11] = blocks > 1
                    chosen = 0
                    if own > 0.5:
                        told[0] = log[min(most, 2 * now[c - 1] + now[c - 2])] / 64
                        told[1] = log[min(most, below)] / 64
                        told[2] = log[min(most, one[c - 1] + 2 * one[c] + one[c + 1])] / 64
                        told[3] = log[min(most, wide)] / 64
                        told[4] = log[min(most, two[c - 1] + two[c] + two[c + 1])] / 64
                        told[5] = log[min(most, mid[c - 1] + 2 * mid[c] + mid[c + 1])] / 64 if channel else 0
                        units[:] = bias
                        for i in range(12):
                            for h in range(hidden):
                                units[h] += told[i] * first[i, h]
                        more = out_bias
                        for h in range(hidden):
                            more += out[h] * min(1, max(0, units[h]))
                        row = min(lengths.shape[0] - 1, max(0, own + 16 * more))
                        value = abs(scaled[frame, channel, place])
                        nearest = int(value + 0.5)
                        chosen = nearest
                        best = _length(lengths, row, nearest)
                        cost = best + worth * (value - nearest) ** 2
                        if nearest > 0:
                            bits = _length(lengths, row, nearest - 1)
                            other = bits + worth * (value - nearest + 1) ** 2
                            if other < cost:
                                chosen, cost, best = nearest - 1, other, bits
                        if nearest == 2:
                            bits = _length(lengths, row, 0)
                            other = bits + worth * value**2
                            if other < cost:
                                chosen, cost, best = 0, other, bits
                        total_bits += best
                    integers[frame, channel, place] = chosen if scaled[frame, channel, place] > 0 else -chosen
                    wide -= one[c - 4]
                    now[c] = 4 * chosen
                    below += now[c]
                    if k >= 5:
                        below -= now[c - 5]
                for k in range(bins):
                    for place in range(k * blocks, (k + 1) * blocks):
                        older[channel, place] = last[channel, place]
                        last[channel, place] = now[k + 5] // 4
    return total_bits


def choose_integers(
    scaled: Floats, types: NDArray[np.uint8], scales: Floats, band_of: NDArray[np.int64], network: tuple[Floats, ...],
    worth: float,
) -> tuple[NDArray[np.int32], float]:  # fmt: skip
    """Integers, int32 (frames, 2, 800), and their bits.

    Args:
        scaled: coefficients in steps, (frames, 2, 800).
        types: block types, (frames,).
        scales: log scales, (frames, 2, 4, 27).
        band_of: band of each coefficient, (800,).
        network: weights of theta (12, h), (h,), (h,), its bias (1,), and code lengths in bits, (64, 16).
        worth: bits of a squared error of one step.
    """
    first, bias, out, out_bias, lengths = network
    integers = np.zeros(scaled.shape, np.int32)
    bits = _choose(
        scaled,
        types,
        scales,
        band_of,
        first,
        bias,
        out,
        float(out_bias[0]),
        lengths,
        worth,
        _BLOCKS,
        LOG,
        integers,
    )
    return integers, bits

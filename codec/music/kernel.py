"""Coefficients one after the other in plain integer loops compiled by numba: choosing, counting and decoding them.

A coefficient's row of the table follows from what the prior says of its band and from magnitudes that are known already
(`context`). All of it is integers, so every machine finds the same row. The loops come as one function with three
modes, so that what is coded and what is decoded cannot differ:

- CHOOSE: integers that are worth their bits. A coefficient takes the nearest integer, the next smaller one, or zero,
  whichever has the least squared error in steps plus code length. What a choice does to later contexts is left out.
- COUNT: integers are given; rows and bits.
- DECODE: integers are read from a range-coded message of magnitudes and a string of raw bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..entropy.integer import ACTIVATION
from ..entropy.range_coder import PRECISION, TOTAL
from .bands import BANDS, CODED, EDGES
from .context import LOG
from .transform import BLOCKS

CHOOSE, COUNT, DECODE = range(3)
TOLD = 12
"""Inputs of the network that finds the row."""
INPUT_BITS = 9
"""Inputs count in 2^-9."""
SCALE_BITS = 3
"""Log scales count in eighths of a row."""
LEAST_SCALE = 4
"""Bands of a log scale up to here are not coded."""
Array = NDArray[Any]
_BLOCKS = np.array(BLOCKS)
_BAND_OF = np.repeat(np.arange(BANDS), np.diff(EDGES))
_32, _24 = np.uint64(32), np.uint64(PRECISION)


@numba.njit(cache=True, nogil=True)
def _length(lengths: Array, row: int, size: int) -> float:
    """Bits of a magnitude with its sign."""
    most = lengths.shape[1] - 1
    found: float = lengths[row, min(size, most)]
    if size > 0:
        found += 1
    if size >= most:
        rest, bits = size - most + 1, 0
        while rest > 1:
            rest >>= 1
            bits += 1
        found += 2 * bits + 1
    return found


@numba.njit(cache=True, nogil=True)
def _word(data: Array, at: int) -> Any:
    value = np.uint64(0)
    for i in range(4):
        value = (value << np.uint64(8)) | np.uint64(data[at + i])
    return value


@numba.njit(cache=True, nogil=True)
def _bit(raw: Array, at: int) -> int:
    """A raw bit; zeros behind the end."""
    byte = at >> 3
    return (raw[byte] >> (7 - (at & 7))) & 1 if byte < len(raw) else 0


@numba.njit(cache=True, nogil=True)
def _walk(
    mode: int,
    scaled: Array,
    worth: float,
    types: Array,
    scales: Array,
    first: Array,
    bias: Array,
    out: Array,
    out_bias: int,
    shifts: Array,
    lengths: Array,
    frequencies: Array,
    message: Array,
    raw: Array,
    integers: Array,
    rows: Array,
    counts: Array,
    log: Array,
    band_of: Array,
) -> float:
    frames, channels, size = integers.shape
    most, hidden = len(log) - 1, len(bias)
    last_row, last_symbol = lengths.shape[0] - 1, lengths.shape[1] - 1
    last = np.zeros((channels, size), np.int32)
    older = np.zeros((channels, size), np.int32)
    one = np.zeros(size + 10, np.int32)  # sums by coefficient of a block, five zeros on both sides
    two = np.zeros(size + 10, np.int32)
    mid = np.zeros(size + 10, np.int32)
    now = np.zeros(size + 10, np.int32)
    told = np.zeros(TOLD, np.int32)
    fixed = np.zeros(hidden, np.int32)
    units = np.zeros(hidden, np.int32)
    bits = 0.0
    span, offset, at, raw_at = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0), 0, 0
    if mode == DECODE:
        offset = (_word(message, 0) << _32) | _word(message, 4)
        at = 8
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
                below, band, own = 0, -1, 0
                for k in range(bins):
                    c = k + 5
                    place = k * blocks + block
                    wide += one[c + 4]
                    if band_of[place] != band:
                        band = band_of[place]
                        own = scales[frame, channel, slot, band]
                        past = own
                        if slot > 0:
                            past = scales[frame, channel, slot - 1, band]
                        elif frame > 0:
                            past = scales[frame - 1, channel, 3, band]
                        across = scales[frame, 0, slot, band] - own
                        told[6] = own
                        told[7] = 2 * min(256, max(-256, own - past))
                        told[8] = 2 * min(256, max(-256, across))
                        told[9] = 512 * channel
                        told[10] = 16 * band
                        told[11] = 512 if blocks > 1 else 0
                        for h in range(hidden):
                            fixed[h] = bias[h]
                        for i in range(6, TOLD):
                            for h in range(hidden):
                                fixed[h] += told[i] * first[i, h]
                    chosen = 0
                    if own > LEAST_SCALE:
                        told[0] = 8 * log[min(most, 2 * now[c - 1] + now[c - 2])]
                        told[1] = 8 * log[min(most, below)]
                        told[2] = 8 * log[min(most, one[c - 1] + 2 * one[c] + one[c + 1])]
                        told[3] = 8 * log[min(most, wide)]
                        told[4] = 8 * log[min(most, two[c - 1] + two[c] + two[c + 1])]
                        told[5] = 8 * log[min(most, mid[c - 1] + 2 * mid[c] + mid[c + 1])] if channel else 0
                        for h in range(hidden):
                            units[h] = fixed[h]
                        for i in range(6):
                            if told[i]:
                                for h in range(hidden):
                                    units[h] += told[i] * first[i, h]
                        more = np.int64(out_bias)
                        for h in range(hidden):
                            more += out[h] * min(ACTIVATION, max(0, units[h] >> shifts[0]))
                        row = min(last_row, max(0, (own + (more >> shifts[1]) + 4) >> SCALE_BITS))
                        rows[frame, channel, place] = row
                        if mode == CHOOSE:
                            value = abs(scaled[frame, channel, place])
                            chosen = int(value + 0.5)
                            length = _length(lengths, row, chosen)
                            cost = length + worth * (value - chosen) ** 2
                            nearest = chosen
                            for other in (nearest - 1, 0):
                                if 0 <= other < nearest and (other > 0 or nearest < 3):
                                    tried = _length(lengths, row, other)
                                    total_cost = tried + worth * (value - other) ** 2
                                    if total_cost < cost:
                                        chosen, cost, length = other, total_cost, tried
                            bits += length
                            integers[frame, channel, place] = (
                                chosen if scaled[frame, channel, place] > 0 else -chosen
                            )
                        elif mode == COUNT:
                            chosen = abs(integers[frame, channel, place])
                            bits += _length(lengths, row, chosen)
                        else:
                            scale = span >> _24
                            target = offset // scale
                            if target >= np.uint64(TOTAL):
                                return -1.0
                            wanted, under = np.int64(target), np.int64(0)
                            while wanted >= under + frequencies[row, chosen]:
                                under += frequencies[row, chosen]
                                chosen += 1
                            offset -= scale * np.uint64(under)
                            span = scale * np.uint64(frequencies[row, chosen])
                            if span >> _32 == 0:
                                word = np.uint64(0)
                                if at + 4 <= len(message):
                                    word = _word(message, at)
                                offset = (offset << _32) | word
                                span = span << _32
                                at += 4
                            if chosen == last_symbol:  # Elias gamma code of what is above
                                zeros = 0
                                while zeros < 12 and _bit(raw, raw_at) == 0:
                                    zeros += 1
                                    raw_at += 1
                                rest = 0
                                for _ in range(zeros + 1):
                                    rest = 2 * rest + _bit(raw, raw_at)
                                    raw_at += 1
                                chosen = last_symbol + rest - 1
                            integers[frame, channel, place] = chosen
                            if chosen > 0:
                                if _bit(raw, raw_at):
                                    integers[frame, channel, place] = -chosen
                                raw_at += 1
                    wide -= one[c - 4]
                    now[c] = 4 * chosen
                    below += now[c]
                    if k >= 5:
                        below -= now[c - 5]
                for k in range(bins):
                    for place in range(k * blocks, (k + 1) * blocks):
                        older[channel, place] = last[channel, place]
                        last[channel, place] = now[k + 5] >> 2
    return bits


class Theta:
    """The network of rows and the table, as arrays of integers.

    Args:
        first: int8 (12, h), of inputs in 2^-9.
        bias: int32 (h,).
        out: int8 (h,).
        out_bias: int32.
        shifts: from first sums to activations of 2^-7, and from last sums to eighths of a row.
        frequencies: int32 (rows, symbols), each row's sum 2^24.
    """

    def __init__(
        self,
        first: Array,
        bias: Array,
        out: Array,
        out_bias: int,
        shifts: tuple[int, int],
        frequencies: Array,
    ) -> None:
        self._network = (
            first.astype(np.int32),
            bias.astype(np.int32),
            out.astype(np.int32),
            int(out_bias),
            np.array(shifts),
        )
        self.frequencies = frequencies
        self.lengths = -np.log2(frequencies / TOTAL)

    def choose(self, scaled: Array, types: Array, scales: Array, worth: float) -> tuple[Array, float]:
        """Integers, int32 (frames, 2, 800), and their bits, of coefficients in steps, float32 (frames, 2, 800).

        Args:
            scaled: the coefficients.
            types: block types, uint8 (frames,).
            scales: of the prior, in eighths of a row, int32 (frames, 2, 4, 27).
            worth: bits of a squared error of one step.
        """
        integers = np.zeros(scaled.shape, np.int32)
        _, bits = self._run(CHOOSE, integers, types, scales, scaled, worth)
        return integers, bits

    def rows(self, integers: Array, types: Array, scales: Array) -> tuple[Array, float]:
        """Rows of the table, int8 (frames, 2, 800), -1 where nothing is coded, and all bits."""
        return self._run(COUNT, integers, types, scales)

    def decode(self, message: bytes, raw: bytes, types: Array, scales: Array) -> Array:
        """Integers of a message of magnitudes and of raw bits.

        Raises:
            ValueError: no encoder wrote them.
        """
        integers = np.zeros((len(types), scales.shape[1], CODED), np.int32)
        data = np.frombuffer(message + bytes(-len(message) % 4 + 8), np.uint8)
        _, bits = self._run(DECODE, integers, types, scales, message=data, raw=np.frombuffer(raw, np.uint8))
        if bits < 0:
            raise ValueError("entropy-coded data that no encoder wrote")
        return integers

    def _run(
        self,
        mode: int,
        integers: Array,
        types: Array,
        scales: Array,
        scaled: Array | None = None,
        worth: float = 0.0,
        message: Array | None = None,
        raw: Array | None = None,
    ) -> tuple[Array, float]:
        rows = np.full(integers.shape, -1, np.int8)
        nothing = np.zeros(0, np.uint8)
        bits = _walk(
            mode,
            np.zeros((0, 0, 0), np.float32) if scaled is None else scaled,
            worth,
            types,
            scales,
            *self._network,
            self.lengths,
            self.frequencies,
            nothing if message is None else message,
            nothing if raw is None else raw,
            integers,
            rows,
            _BLOCKS,
            LOG,
            _BAND_OF,
        )
        return rows, bits

"""The prior of sound and the range decoder digit by digit, in plain integer loops compiled by numba.

What `fsqcodec.audio.prior.Prior.logits` computes for all frames at once is computed here for one digit after
the other, since decoding a digit needs those before it. Every sum fits 32 bits (`fsqcodec.entropy.learned`).
The loops are also the reference: `decode.py_func` is the same code as plain Python. All of them are in one
file, since numba's cache does not notice what changes in another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .integer import ACTIVATION, ACTIVATION_BITS, LOGIT_BITS, WEIGHT_TABLE_SIZE
from .range_coder import PRECISION, TOTAL

PARTS = ("_word", "_add_products", "_requantize", "_frequencies")
"""Functions that `decode` calls."""
Array = NDArray[Any]
_32, _24 = np.uint64(32), np.uint64(PRECISION)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_TOTAL = np.uint64(TOTAL)


class PriorTensors(NamedTuple):
    """Tensors of the prior, as `fsqcodec.audio.prior` describes them."""

    embed: Array
    embed_bias: Array
    near: Array
    near_bias: Array
    far: Array
    far_bias: Array
    context: Array
    history: Array
    hidden_bias: Array
    out: Array
    out_bias: Array
    siblings: Array
    scales: Array
    weights: Array
    blocks: Array


@njit(cache=True, nogil=True)
def decode(
    tensors: tuple[Array, ...],
    levels: Array,
    per_layer: int,
    data: Array,
    ends: Array,
    digits: Array,
    tail: int,
    known: int,
) -> bool:
    """Decode one packet into `digits` int64 (frames, stages, d).

    Args:
        tensors: those of `PriorTensors`, as a plain tuple: numba leaks memory with every named one that it is
            given.
        levels: of the d channels of a stage.
        per_layer: stages of a layer of the bitstream.
        data: the messages of the layers, or one of all of them, uint8, each filled up with zeros to whole
            words, at least two.
        ends: where they begin, and the end of the last: int64 (messages + 1,).
        digits: written here; the tail's and those of the known frames are there.
        tail: frames at the end that lack the last stage.
        known: frames at the beginning that are not in the messages.

    Returns:
        False when no encoder wrote these messages.
    """
    prior = PriorTensors(*tensors)
    embed, near, far, out, blocks = prior.embed, prior.near, prior.far, prior.out, prior.blocks
    context, history, siblings = prior.context, prior.history, prior.siblings
    scales, weights = prior.scales, prior.weights
    frames, stages, channels = digits.shape
    depth = out.shape[2] // channels
    width, taps = len(prior.embed_bias), len(near)
    messages = len(ends) - 1
    # Hidden units of layers that are not there are never looked at.
    used = blocks[(stages + per_layer - 1) // per_layer]
    to_frame = scales[0] - ACTIVATION_BITS
    lift_history = scales[3] + ACTIVATION_BITS - scales[4]
    lift_siblings = scales[5] + ACTIVATION_BITS - scales[6]
    to_logit = scales[5] + ACTIVATION_BITS - LOGIT_BITS

    span = np.empty(messages, np.uint64)
    offset = np.empty(messages, np.uint64)
    at = np.empty(messages, np.int64)
    for i in range(messages):
        at[i] = ends[i]
        span[i] = _FULL
        offset[i] = (_word(data, at[i]) << _32) | _word(data, at[i] + 4)
        at[i] += 8

    frame_units = np.zeros((frames, used), np.int32)
    near_units = np.zeros((frames, used), np.int32)
    far_units = np.zeros(used, np.int32)
    sums = np.zeros(width, np.int32)
    hidden = np.zeros(width, np.int32)
    logits = np.zeros(channels * depth, np.int32)
    frequency = np.zeros(depth, np.int64)
    for t in range(frames):
        sums[:used] = prior.near_bias[:used]
        for k in range(1, min(taps, t) + 1):
            _add_products(sums, frame_units[t - k], near[k - 1], used, blocks)
        _requantize(sums, near_units[t], scales[1], used)
        coded = 0
        if t >= known:
            coded = stages if t < frames - tail else stages - 1
            sums[:used] = prior.far_bias[:used]
            _add_products(sums, near_units[t], far[0], used, blocks)
            if t >= taps:
                _add_products(sums, near_units[t - taps], far[1], used, blocks)
            _requantize(sums, far_units, scales[2], used)

        sums[:] = 0
        for s in range(coded):
            layer = s // per_layer
            if s % per_layer == 0:
                for i in range(blocks[layer], blocks[layer + 1]):
                    for j in range(width):
                        sums[j] += far_units[i] * context[i, j]
            for j in range(width):
                hidden[j] = min(max((sums[j] + prior.hidden_bias[s, j]) >> scales[3], 0), ACTIVATION)
            logits[:] = prior.out_bias[s]
            for i in range(width):
                if hidden[i]:
                    for j in range(channels * depth):
                        logits[j] += hidden[i] * out[s, i, j]
            m = min(layer, messages - 1)
            for c in range(channels):
                first = c * depth
                _frequencies(logits, first, levels[c], to_logit, weights, frequency)
                scale = span[m] >> _24
                target = offset[m] // scale
                if target >= _TOTAL:
                    return False
                wanted = np.int64(target)
                level = 0
                below = np.int64(0)
                while wanted >= below + frequency[level]:
                    below += frequency[level]
                    level += 1
                if level >= levels[c]:
                    return False
                offset[m] -= scale * np.uint64(below)
                span[m] = scale * np.uint64(frequency[level])
                if span[m] >> _32 == 0:
                    word = np.uint64(0)
                    if at[m] < ends[m + 1]:
                        word = _word(data, at[m])
                    offset[m] = (offset[m] << _32) | word
                    span[m] = span[m] << _32
                    at[m] += 4
                digits[t, s, c] = level
                for j in range(first + depth, channels * depth):
                    logits[j] += np.int32(siblings[s, first + level, j]) << lift_siblings
                for j in range(width):
                    sums[j] += np.int32(history[s, first + level, j]) << lift_history

        sums[:used] = prior.embed_bias[:used]
        for s in range(stages):
            for c in range(channels):
                row = (s * channels + c) * depth + digits[t, s, c]
                for j in range(blocks[s // per_layer], used):
                    sums[j] += embed[row, j]
        _requantize(sums, frame_units[t], to_frame, used)
    return True


@njit(cache=True, nogil=True)
def frequency_rows(logits: Array, weights: Array) -> Array:
    """`integer.frequencies` of many digits at once, all of whose levels are possible: int32 (n, L) → int32
    (n, L)."""
    depth = logits.shape[1]
    rows = np.empty(logits.shape, np.int32)
    flat, found = logits.ravel(), rows.ravel()
    for i in range(len(logits)):
        _frequencies(flat, i * depth, depth, 0, weights, found[i * depth : (i + 1) * depth])
    return rows


@njit(cache=True, nogil=True)
def add_rows(logits: Array, table: Array, classes: Array, rows: Array) -> None:
    """Add rows of a table to logits in place.

    Args:
        logits: int32 (n, channels, L).
        table: integers (classes, channels, rows, L).
        classes: int64 (n,).
        rows: int64 (n, channels).
    """
    for i in range(len(logits)):
        for c in range(logits.shape[1]):
            for v in range(logits.shape[2]):
                logits[i, c, v] += table[classes[i], c, rows[i, c], v]


@njit(cache=True, nogil=True)
def _word(data: Array, at: int) -> np.uint64:
    """Big-endian 32-bit word."""
    value = np.uint64(0)
    for i in range(4):
        value = (value << np.uint64(8)) | np.uint64(data[at + i])
    return value


@njit(cache=True, nogil=True)
def _add_products(sums: Array, units: Array, table: Array, used: int, blocks: Array) -> None:
    """sums += units @ table; a unit reaches its own block and later ones."""
    block = 0
    for i in range(used):
        block += i == blocks[block + 1]
        if units[i]:
            for j in range(blocks[block], used):
                sums[j] += units[i] * table[i, j]


@njit(cache=True, nogil=True)
def _requantize(sums: Array, units: Array, shift: int, used: int) -> None:
    for j in range(used):
        units[j] = min(max(sums[j] >> shift, 0), ACTIVATION)


@njit(cache=True, nogil=True)
def _frequencies(logits: Array, first: int, count: int, shift: int, weights: Array, frequency: Array) -> None:
    """`integer.frequencies` of one digit, of the `count` logits from `first` on.

    Impossible levels keep a frequency of 1.
    """
    best = logits[first] >> shift
    likeliest = 0
    for v in range(1, count):
        if logits[first + v] >> shift > best:
            best = logits[first + v] >> shift
            likeliest = v
    total = np.int64(0)
    for v in range(count):
        weight = weights[min(best - (logits[first + v] >> shift), WEIGHT_TABLE_SIZE - 1)]
        frequency[v] = weight
        total += weight
    rest = np.int64(TOTAL)
    whole = np.float64(total)
    spread = TOTAL - len(frequency)
    for v in range(len(frequency)):
        # As exact as the integer division, and quicker: the dividend is below 2^41, and a quotient below 2^24
        # that is no whole number lies at least 1/total > 2^-29, the last place of its float64, from the next
        # one.
        share = np.int64(np.float64(np.int64(frequency[v]) * spread) / whole) if v < count else 0
        frequency[v] = share + 1
        rest -= share + 1
    frequency[likeliest] += rest

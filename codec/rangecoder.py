"""Range coding of integer symbols under integer frequencies: exact on every machine.

Every symbol comes with a row of frequencies ≥ 1 that add up to 2^24. The arithmetic is constriction's
`RangeEncoder` (Martin 1979; 64-bit state, 32-bit words); `reference_encode` and `reference_decode` are the
same coder in plain Python integers: the fallback where constriction has no wheel, and the tests' oracle.

Coder, with `low` and `range` of 64 bits below the words already written:

    scale = range >> 24      low += scale · cumulative      range = scale · frequency
    while range < 2^32: shift one 32-bit word of `low` out, range <<= 32

A message ends as the shortest byte string that, followed by zeros, lies in [low, low + range); this saves
one to four bytes a message against whole words. Reading past the end of a message reads zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import BitstreamError

try:
    import constriction
except ImportError:  # no wheel for this platform: the reference coder below does the work, slowly
    constriction = None

PRECISION = 24
TOTAL = 1 << PRECISION
_STATE = 64
_WORD = 32

Symbols = NDArray[np.int32]
Frequencies = NDArray[np.int32]


def check_frequencies(frequencies: NDArray[np.integer]) -> None:
    """Check rows (..., L): each frequency at least 1, each row's sum 2^24.

    Raises:
        ValueError: they are not.
    """
    if frequencies.min() < 1 or (frequencies.sum(-1, dtype=np.int64) != TOTAL).any():
        raise ValueError(f"frequencies must be at least 1 and add up to {TOTAL} in each row")


def encode(symbols: Symbols, frequencies: Frequencies) -> bytes:
    """Code symbols (n,) under frequencies int32 (n, L), row i for symbol i."""
    if constriction is None or not len(symbols):
        return reference_encode(symbols, frequencies)
    coder = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Categorical(perfect=False)
    # With perfect=False constriction adds 1 to each frequency that it is fed; sums of 2^24 pass unscaled.
    coder.encode(np.ascontiguousarray(symbols, np.int32), family, frequencies.astype(np.float64) - 1)
    # constriction tells `low` modulo 2^64. Its own sealed message has one or two words of the state behind
    # the `written` ones and, followed by zeros, lies in [low, low + span): that tells what is above.
    written, (lower, span) = coder.pos()
    words = coder.get_compressed()
    sealed = int.from_bytes(words.astype(">u4").tobytes(), "big")
    point = sealed << (_STATE - _WORD * (len(words) - written))
    low = point - (point - lower) % (1 << _STATE)
    return _shortest(low, span, _STATE + _WORD * written)


def decode(message: bytes, frequencies: Frequencies) -> Symbols:
    """Read symbols int32 (n,) under frequencies int32 (n, L); inverse of `encode`.

    Raises:
        BitstreamError: no encoder wrote this message.
    """
    if constriction is None or not len(frequencies):
        return reference_decode(message, frequencies)
    padded = message + bytes(-len(message) % 4 + 8)
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
    family = constriction.stream.model.Categorical(perfect=False)
    try:
        symbols: Symbols = coder.decode(family, frequencies.astype(np.float64) - 1)
    except AssertionError:
        raise BitstreamError("entropy-coded data that no encoder wrote") from None
    return symbols


def reference_encode(symbols: Symbols, frequencies: Frequencies) -> bytes:
    """`encode` in plain Python integers."""
    low, span, bits = 0, (1 << _STATE) - 1, _STATE
    for symbol, row in zip(symbols.tolist(), frequencies.tolist(), strict=True):
        scale = span >> PRECISION
        low += scale * sum(row[:symbol])
        span = scale * row[symbol]
        if span < 1 << (_STATE - _WORD):
            low, span, bits = low << _WORD, span << _WORD, bits + _WORD
    return _shortest(low, span, bits) if len(symbols) else b""


def reference_decode(message: bytes, frequencies: Frequencies) -> Symbols:
    """`decode` in plain Python integers."""
    words = iter(np.frombuffer(message + bytes(-len(message) % 4), ">u4").tolist())
    offset, span = (next(words, 0) << _WORD) | next(words, 0), (1 << _STATE) - 1
    symbols = []
    for row in frequencies.tolist():
        scale = span >> PRECISION
        target = offset // scale
        if target >= TOTAL:
            raise BitstreamError("entropy-coded data that no encoder wrote")
        symbol = 0
        while target >= row[symbol]:
            target -= row[symbol]
            symbol += 1
        offset -= scale * sum(row[:symbol])
        span = scale * row[symbol]
        if span < 1 << (_STATE - _WORD):
            offset, span = (offset << _WORD) | next(words, 0), span << _WORD
        symbols.append(symbol)
    return np.array(symbols, np.int32)


def _shortest(low: int, span: int, bits: int) -> bytes:
    """Fewest leading bytes of a `bits`-bit number in [low, low + span), the rest of it zeros."""
    for size in range(bits // 8 + 1):
        unit = 1 << (bits - 8 * size)
        value = -(-low // unit) * unit
        if value < low + span and value < 1 << bits:
            return (value // unit).to_bytes(size, "big")
    raise AssertionError("an empty interval")

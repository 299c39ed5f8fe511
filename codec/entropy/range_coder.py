"""Range coding of integer symbols under integer frequencies: exact on every machine.

Every symbol comes with a row of frequencies ≥ 1 that add up to 2^24. The arithmetic is constriction's
`RangeEncoder` (Martin 1979; 64-bit state, 32-bit words); `ReferenceEncoder` and `ReferenceDecoder` are the
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

from ..errors import BitstreamError

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


class Encoder:
    """Codes symbols as they come into one message."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        # With perfect=False constriction adds 1 to each frequency that it is fed; sums of 2^24 pass unscaled.
        self._family = constriction.stream.model.Categorical(perfect=False)
        self._empty = True

    def push(self, symbols: Symbols, frequencies: Frequencies) -> None:
        """Code symbols (n,) under frequencies int32 (n, L), row i for symbol i."""
        if len(symbols):
            self._empty = False
            self._coder.encode(
                np.ascontiguousarray(symbols, np.int32), self._family, frequencies.astype(np.float64) - 1
            )

    def finish(self) -> bytes:
        """The message."""
        if self._empty:
            return b""
        # constriction tells `low` modulo 2^64. Its own sealed message has one or two words of the state
        # behind the `written` ones and, followed by zeros, lies in [low, low + span): that tells what is
        # above.
        written, (lower, span) = self._coder.pos()
        words = self._coder.get_compressed()
        sealed = int.from_bytes(words.astype(">u4").tobytes(), "big")
        point = sealed << (_STATE - _WORD * (len(words) - written))
        low = point - (point - lower) % (1 << _STATE)
        return _shortest(low, span, _STATE + _WORD * written)


class Decoder:
    """Reads symbols of one message as they are asked for; inverse of `Encoder`."""

    def __init__(self, message: bytes) -> None:
        padded = message + bytes(-len(message) % 4 + 8)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._family = constriction.stream.model.Categorical(perfect=False)

    def pull(self, frequencies: Frequencies) -> Symbols:
        """The next symbols int32 (n,) under frequencies int32 (n, L).

        Raises:
            BitstreamError: no encoder wrote this message.
        """
        if not len(frequencies):
            return np.zeros(0, np.int32)
        try:
            symbols: Symbols = self._coder.decode(self._family, frequencies.astype(np.float64) - 1)
        except AssertionError:
            raise BitstreamError("entropy-coded data that no encoder wrote") from None
        return symbols


class ReferenceEncoder:
    """`Encoder` in plain Python integers."""

    def __init__(self) -> None:
        self._low, self._span, self._bits = 0, (1 << _STATE) - 1, _STATE
        self._empty = True

    def push(self, symbols: Symbols, frequencies: Frequencies) -> None:
        """See `Encoder.push`."""
        for symbol, row in zip(symbols.tolist(), frequencies.tolist(), strict=True):
            scale = self._span >> PRECISION
            self._low += scale * sum(row[:symbol])
            self._span = scale * row[symbol]
            if self._span < 1 << (_STATE - _WORD):
                self._low, self._span, self._bits = (
                    self._low << _WORD,
                    self._span << _WORD,
                    self._bits + _WORD,
                )
            self._empty = False

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return b"" if self._empty else _shortest(self._low, self._span, self._bits)


class ReferenceDecoder:
    """`Decoder` in plain Python integers."""

    def __init__(self, message: bytes) -> None:
        self._words = iter(np.frombuffer(message + bytes(-len(message) % 4), ">u4").tolist())
        self._offset = (next(self._words, 0) << _WORD) | next(self._words, 0)
        self._span = (1 << _STATE) - 1

    def pull(self, frequencies: Frequencies) -> Symbols:
        """See `Decoder.pull`."""
        symbols = []
        for row in frequencies.tolist():
            scale = self._span >> PRECISION
            target = self._offset // scale
            if target >= TOTAL:
                raise BitstreamError("entropy-coded data that no encoder wrote")
            symbol = 0
            while target >= row[symbol]:
                target -= row[symbol]
                symbol += 1
            self._offset -= scale * sum(row[:symbol])
            self._span = scale * row[symbol]
            if self._span < 1 << (_STATE - _WORD):
                self._offset = (self._offset << _WORD) | next(self._words, 0)
                self._span <<= _WORD
            symbols.append(symbol)
        return np.array(symbols, np.int32)


def encoder() -> Encoder | ReferenceEncoder:
    """The fastest coder that this machine has; all write the same bytes."""
    return ReferenceEncoder() if constriction is None else Encoder()


def decoder(message: bytes) -> Decoder | ReferenceDecoder:
    """The fastest coder that this machine has."""
    return ReferenceDecoder(message) if constriction is None else Decoder(message)


def encode(symbols: Symbols, frequencies: Frequencies) -> bytes:
    """Message of symbols (n,) under frequencies int32 (n, L), row i for symbol i."""
    coder = encoder()
    coder.push(symbols, frequencies)
    return coder.finish()


def decode(message: bytes, frequencies: Frequencies) -> Symbols:
    """Read symbols int32 (n,) under frequencies int32 (n, L); inverse of `encode`.

    Raises:
        BitstreamError: no encoder wrote this message.
    """
    return decoder(message).pull(frequencies)


def reference_encode(symbols: Symbols, frequencies: Frequencies) -> bytes:
    """`encode` in plain Python integers."""
    coder = ReferenceEncoder()
    coder.push(symbols, frequencies)
    return coder.finish()


def reference_decode(message: bytes, frequencies: Frequencies) -> Symbols:
    """`decode` in plain Python integers."""
    return ReferenceDecoder(message).pull(frequencies)


def _shortest(low: int, span: int, bits: int) -> bytes:
    """Fewest leading bytes of a `bits`-bit number in [low, low + span), the rest of it zeros."""
    # The interval is narrower than 2^64, so a shorter number can only be that of this size with zeros behind
    # it.
    for size in range(bits // 8 - _STATE // 8, bits // 8 + 1):
        unit = 1 << (bits - 8 * size)
        value = -(-low // unit) * unit
        if value < low + span and value < 1 << bits:
            return (value // unit).to_bytes(size, "big").rstrip(b"\0")
    raise AssertionError("an empty interval")

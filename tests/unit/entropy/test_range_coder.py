"""The range coder: constriction's and the reference write the same bytes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from fsqcodec.entropy import range_coder
from fsqcodec.entropy.range_coder import TOTAL
from fsqcodec.entropy.static import normalise
from fsqcodec.errors import BitstreamError
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def messages(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, levels, skew = draw(st.integers(0, 120)), draw(st.integers(2, 9)), draw(st.floats(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frequencies = normalise(rng.random((n, levels)) ** skew + 1e-12)
    likely = rng.random() < 0.5
    symbols = frequencies.argmax(1) if likely and n else rng.integers(0, levels, n)
    return symbols.astype(np.int32), frequencies


@given(messages())
def test_constriction_and_the_reference_write_and_read_the_same_bytes(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    symbols, frequencies = case
    message = range_coder.encode(symbols, frequencies)
    assert message == range_coder.reference_encode(symbols, frequencies)
    assert np.array_equal(range_coder.decode(message, frequencies), symbols)
    assert np.array_equal(range_coder.reference_decode(message, frequencies), symbols)
    ideal = -np.log2(frequencies[np.arange(len(symbols)), symbols] / TOTAL).sum()
    assert len(message) * 8 <= ideal * 1.0001 + 16


def test_carries_through_many_words() -> None:
    # Symbols around the middle keep the interval astride a carry for as long as they last.
    row = np.array([TOTAL // 2 - 1, 2, TOTAL // 2 - 1], np.int32)
    for length in range(1, 60):
        for last in (0, 1, 2):
            symbols = np.ones(length, np.int32)
            symbols[-1] = last
            frequencies = np.tile(row, (length, 1))
            message = range_coder.encode(symbols, frequencies)
            assert message == range_coder.reference_encode(symbols, frequencies)
            assert np.array_equal(range_coder.decode(message, frequencies), symbols)


@given(st.binary(max_size=60), st.integers(1, 300))
def test_rubbish_reads_as_symbols_or_as_an_error(message: bytes, count: int) -> None:
    frequencies = np.tile(normalise(np.array([[1.0, 5.0, 1e-9]])), (count, 1))
    outcomes = []
    for decode in (range_coder.decode, range_coder.reference_decode):
        try:
            outcomes.append(decode(message, frequencies).tolist())
        except BitstreamError:
            outcomes.append("error")
    assert outcomes[0] == outcomes[1]


def test_frequencies_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        range_coder.check_frequencies(np.array([[0, TOTAL]]))
    with pytest.raises(ValueError, match="add up"):
        range_coder.check_frequencies(np.array([[1, TOTAL]]))


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_with_other_threads_codes_the_same_bytes(threads: int) -> None:
    code = (
        "import sys, numpy as np, torch; torch.set_num_threads(int(sys.argv[1]));"
        "from fsqcodec.entropy import range_coder as r; rng = np.random.default_rng(1);"
        "from fsqcodec.entropy.static import normalise;"
        "f = normalise(rng.random((5000, 5)) ** 3); s = rng.integers(0, 5, 5000).astype(np.int32);"
        "print(r.encode(s, f).hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(threads)], capture_output=True, text=True, check=True
    )
    rng = np.random.default_rng(1)
    frequencies = normalise(rng.random((5000, 5)) ** 3)
    symbols = rng.integers(0, 5, 5000).astype(np.int32)
    assert done.stdout.strip() == range_coder.reference_encode(symbols, frequencies).hex()

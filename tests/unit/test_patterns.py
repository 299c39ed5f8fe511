"""Arrangements of token arrays lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from fsqcodec import patterns
from hypothesis import given
from hypothesis import strategies as st

SIZE = 729


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(0, 20)))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, SIZE, shape).astype(np.uint16)


@given(arrays())
def test_every_arrangement_is_a_bijection(tokens: np.ndarray) -> None:
    stages, frames = tokens.shape[1:]
    words = patterns.offset(tokens, SIZE)
    assert np.array_equal(patterns.unoffset(words, SIZE), tokens)
    assert all((words[:, k] // SIZE == k).all() for k in range(stages))
    sequence = patterns.interleave(tokens, SIZE)
    assert sequence.shape == (len(tokens), stages * frames)
    assert np.array_equal(sequence[:, :stages], words[:, :, 0] if frames else sequence)
    assert np.array_equal(patterns.deinterleave(sequence, SIZE, stages), tokens)
    moved = patterns.delay(tokens, SIZE)
    assert (moved == SIZE).sum() == len(tokens) * stages * (stages - 1)
    assert np.array_equal(patterns.undelay(moved), tokens)


@given(arrays(), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 2**32))
def test_masks_hide_what_they_say(tokens: np.ndarray, share: float | None, seed: int) -> None:
    masked, hidden = patterns.mask(tokens, SIZE, np.random.default_rng(seed), share)
    assert np.array_equal(masked == SIZE, hidden)
    assert np.array_equal(patterns.unmask(masked, hidden, tokens), tokens)
    if share is not None:
        assert hidden.sum() == np.ceil(share * tokens.size)


def test_what_is_out_of_place_is_refused() -> None:
    tokens = np.arange(6).reshape(1, 2, 3)
    with pytest.raises(ValueError, match="0 … 4"):
        patterns.offset(tokens, 5)
    with pytest.raises(ValueError, match="0 … 5"):
        patterns.unoffset(tokens[:, ::-1], 6)
    with pytest.raises(ValueError, match="whole frames"):
        patterns.deinterleave(np.zeros((1, 7)), 6, 2)
    with pytest.raises(ValueError, match="too few"):
        patterns.undelay(np.zeros((4, 2)))

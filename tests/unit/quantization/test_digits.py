"""Digits as one number: the same for tensors and arrays, and back."""

from __future__ import annotations

import numpy as np
import torch
from fsqcodec.quantization.digits import pack, radix_of, unpack
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(0, 2**32))
def test_digits_become_a_number_and_come_back(levels: list[int], seed: int) -> None:
    radix, sizes = np.array(radix_of(levels)), np.array(levels)
    digits = np.random.default_rng(seed).integers(0, sizes, (5, len(levels)))
    numbers = pack(digits, radix)
    assert numbers.max() < sizes.prod()
    assert np.array_equal(unpack(numbers, radix, sizes), digits)
    tensors = [torch.from_numpy(array) for array in (digits, radix, sizes)]
    assert np.array_equal(pack(*tensors[:2]).numpy(), numbers)
    assert torch.equal(unpack(pack(*tensors[:2]), *tensors[1:]), tensors[0])


def test_the_first_channel_is_fastest() -> None:
    assert radix_of([5, 3, 7]) == [1, 5, 15]
    assert int(pack(np.array([4, 2, 6]), np.array([1, 5, 15]))) == 5 * 3 * 7 - 1

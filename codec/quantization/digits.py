"""Mixed radix: the d digits of a code as one number, the first channel's digit fastest.

    radix_c = levels_0 · … · levels_(c-1)
    index   = Σ_c digit_c · radix_c
    digit_c = index // radix_c mod levels_c

The same for tensors of torch and arrays of NumPy; radices and levels are given as what the digits are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Integers = TypeVar("Integers", Tensor, np.ndarray[Any, np.dtype[np.integer[Any]]])


def radix_of(levels: Sequence[int]) -> list[int]:
    """What each digit counts for, of the numbers of levels of the channels."""
    return [math.prod(levels[:c]) for c in range(len(levels))]


def pack(digits: Integers, radix: Integers) -> Integers:
    """Numbers of codes: integers (..., d) → (...)."""
    packed: Integers = (digits * radix).sum(-1)
    return packed


def unpack(numbers: Integers, radix: Integers, levels: Integers) -> Integers:
    """Inverse of `pack`: integers (...) → (..., d)."""
    digits: Integers = numbers[..., None] // radix % levels
    return digits

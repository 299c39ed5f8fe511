"""Networks of integers that give the same integers everywhere.

Weights and activations are integers. A matrix product runs on float32 or float64 carriers that hold whole
numbers: as long as every possible partial sum stays within 2^24 (2^53), each operation is exact, so the
order of summation, the number of threads, the library and the device cannot matter. Requantization divides
by a power of two and rounds down, which is exact too. There is no exp, no softmax and no rounding division:
probabilities come from an integer table and integer division.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .range_coder import TOTAL

ACTIVATION_BITS = 7
ACTIVATION = (1 << ACTIVATION_BITS) - 1
"""Largest activation; the real number 1 is one more."""
LOGIT_BITS = 6
"""Logits count in 2^-6 nats."""
LIMIT = 1 << 24
"""Whole numbers up to here are exact in float32, and sums of them that never pass it."""
WEIGHT_TABLE_SIZE = 1 << 10
_WEIGHT_ONE = 1 << 16


def weight_table() -> Tensor:
    """round(2^16 · exp(-i / 2^6)) for i = 0 … 1023, int32: made once at export and kept in the model file."""
    steps = torch.arange(WEIGHT_TABLE_SIZE, dtype=torch.float64) / (1 << LOGIT_BITS)
    return torch.round(_WEIGHT_ONE * torch.exp(-steps)).int()


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 carriers without TF32, bf16 or autocast, whatever is allowed globally."""
    matmul, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    allowed = matmul.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        matmul.allow_tf32 = allowed


def requantize(sums: Tensor, shift: int) -> Tensor:
    """Activations 0 … 127 of integer sums in a float carrier: the sum over 2^shift, rounded down and
    clamped."""
    return torch.floor(sums * 2.0**-shift).clamp_(0, ACTIVATION)


def frequencies(logits: Tensor, possible: Tensor, table: Tensor) -> Tensor:
    """Frequencies of the range coder: int64 logits (..., L) in 2^-6 nats → int64 (..., L), sums 2^24.

    Every level has a frequency of at least 1; what is left over by rounding down goes to the likeliest.

    Args:
        logits: any integers.
        possible: bool, broadcast against the logits; impossible levels get a frequency of 1.
        table: from `weight_table`.
    """
    best = logits.masked_fill(~possible, torch.iinfo(torch.int64).min).amax(-1, keepdim=True)
    below = (best - logits).clamp(0, WEIGHT_TABLE_SIZE - 1)
    weights = torch.where(possible, table.long()[below], 0)
    spread = TOTAL - logits.shape[-1]
    found = weights * spread // weights.sum(-1, keepdim=True) + 1
    # The first of the likeliest: argmax of torch does not promise which of equals it takes.
    order = torch.arange(logits.shape[-1], 0, -1, device=logits.device)
    likeliest = (weights * logits.shape[-1] + order - 1).argmax(-1, keepdim=True)
    return found.scatter_add(-1, likeliest, TOTAL - found.sum(-1, keepdim=True))


def fingerprint(tensors: Mapping[str, NDArray[np.integer]], logits: Tensor) -> bytes:
    """SHA-256 over a prior's tensors and over its logits of made-up tokens: the answer that loading
    compares."""
    digest = hashlib.sha256()
    for name in sorted(set(tensors) - {"answer"}):
        array = tensors[name]
        digest.update(name.encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
    digest.update(logits.cpu().numpy().astype("<i8").tobytes())
    return digest.digest()

"""What a finer step would do, in expectation: slopes of bits and of error for Laplace-distributed coefficients.

Rounding hides how bits and error change with the step. With the integers of one sample fixed, the true slope cannot be
seen; for a known scale it can be computed.
"""

from __future__ import annotations

import torch
from fsqcodec.music.prior import ROWS
from fsqcodec.music.reconstruct import ROUNDING
from torch import Tensor

from .prior_network import CENTRE, UNITS


def laplace_slopes() -> tuple[Tensor, Tensor]:
    """By row of the prior's table, float32 (64,) each.

    Bits of a coefficient that a row more costs, and the logarithm of the error's amplitude by that of the step: 0
    where all is zero, 1 where the error is that of a uniform quantizer.
    """
    rows = torch.arange(-1, ROWS + 1, dtype=torch.float64)
    scale = 2 ** ((rows - CENTRE) / UNITS)
    place = (torch.arange(40000, dtype=torch.float64) + 0.5) / 40000
    value = -torch.log1p(-place)[:, None] * scale
    error = (value - (value + ROUNDING).floor()).square().mean(0)
    most = int(value.max()) + 2
    tail = torch.exp(-(torch.arange(most, dtype=torch.float64)[:, None] + 1 - ROUNDING) / scale)
    mass = torch.cat((1 - tail[:1], tail[:-1] - tail[1:]))
    bits = -(mass * torch.log2(mass.clamp(min=1e-300))).sum(0) + tail[0]
    amplitude = 0.5 * torch.log2(error) - torch.log2(scale)  # of the error, for coefficients of one scale
    return (
        ((bits[2:] - bits[:-2]) / 2).float(),
        (-(amplitude[2:] - amplitude[:-2]) / 2 * UNITS).clamp(0, 1).float(),
    )

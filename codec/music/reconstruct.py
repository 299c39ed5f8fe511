"""Integers and side information to coefficients: dequantization, and noise where all became zero."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .bands import CODED, Bands
from .model import Side
from .transform import FRAME

ROUNDING = 0.43
"""What is added before a magnitude is rounded down."""
NOISE = 0.65
"""Amplitude of the filled noise against the true one."""
_MOST, _LEAST = 0.25, 0.15
"""Amplitudes of noise among coded coefficients, in steps."""
_LARGEST = 1 << 12


def steps_of(side: Side, bands: Bands, knob: Tensor) -> Tensor:
    """Quantizer steps, float32 (B, frames, 2, 4, 27), at knobs in dB, float32 (B,)."""
    return 10 ** ((bands.steps(side.levels, knob[:, None, None, None, None]) + side.steps) / 20)


def quantize(coefficients: Tensor, steps: Tensor, coded: Tensor, rounding: float = ROUNDING) -> Tensor:
    """Integers, int32 (..., 800), of coefficients in steps; zero where they are not coded, bool."""
    scaled = coefficients[..., :CODED] / steps
    magnitude = (scaled.abs() + rounding).floor().clamp(max=_LARGEST) * coded
    return (magnitude * scaled.sign()).int()


def dequantize(
    integers: Tensor, steps: Tensor, side: Side, types: Tensor, bands: Bands, noise: Tensor
) -> Tensor:
    """Coefficients, float32 (B, frames, 2, 960).

    Args:
        integers: int32 (B, frames, 2, 800).
        steps: float32 (B, frames, 2, 4, 27).
        side: of the decoder.
        types: int64 (B, frames).
        noise: uniform between -1 and 1, float32 (B, frames, 2, 800).
    """
    kinds = types[..., None]
    values = integers.float()
    size = values.abs()
    shrunk = values.sign() * (size - 0.01 * (size > 0) - 0.02 * (size == 1))
    decoded = shrunk * bands.spread(steps, kinds)
    zero = (integers == 0).float()
    share = bands.gather(zero, kinds)
    left = (10 ** (side.levels / 10) - bands.gather(decoded.square(), kinds)).clamp(min=0)
    amplitude = torch.minimum((left / share.clamp(min=1e-3) + 1e-14).sqrt(), _MOST * steps)
    amplitude = torch.where(share < 0.999, torch.maximum(amplitude, _LEAST * steps), amplitude)
    amplitude = amplitude * (NOISE * 3**0.5) * 10 ** (side.noise / 20)
    filled = decoded + zero * noise * bands.spread(amplitude, kinds)
    return F.pad(filled, (0, FRAME - CODED))

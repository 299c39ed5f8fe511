"""Bits of digits under a prior's logits, with gradients for the prior and for the encoder."""

from __future__ import annotations

import math
from typing import Any

import torch
from fsqcodec.entropy.rate_gradient import rate_slopes
from torch import Tensor


def code_lengths(logits: Tensor, digits: Tensor) -> Tensor:
    """Bits of digits int64 (...) under logits float32 (..., L): float32 (...)."""
    nats: Tensor = _CrossEntropy.apply(logits, digits)
    return nats / math.log(2)


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy over few levels, level by level: torch's goes row by row, at three times the time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, digits: Tensor) -> Tensor:
        levels = logits.movedim(-1, 0)
        levels = levels - levels.amax(0)
        chosen = levels.gather(0, digits[None])[0]
        levels = levels.exp_()
        total = levels.sum(0)
        ctx.save_for_backward(levels.div_(total), digits)
        return total.log() - chosen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        shares, digits = ctx.saved_tensors
        slopes = (shares * grads[0]).scatter_add_(0, digits[None], -grads[0][None])
        return slopes.movedim(0, -1), None


def rate(logits: Tensor, digits: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Bits of digits, twice: with gradients for the prior, and with gradients for the encoder.

    The encoder's is the length interpolated linearly between the cell that was chosen and its neighbour on
    the side of the unrounded latent, so that a latent is drawn to the cheaper side by the bits it would save.

    Args:
        logits: float32 (..., L).
        digits: int64 (...).
        positions: unrounded digits, float32 (...), with gradients to the encoder.

    Returns:
        two float32 (...) of equal use: bits for the prior's loss, bits for the encoder's.
    """
    bits = code_lengths(logits, digits)
    slope = rate_slopes(logits, digits, positions)
    return bits, bits.detach() + slope * (positions - digits)

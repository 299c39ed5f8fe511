"""What moving a latent would do to its code length."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEEPEST = 20.0
"""Bits a cell; beyond lies noise of cells that are never used."""


def rate_slopes(logits: Tensor, digits: Tensor, positions: Tensor) -> Tensor:
    """Bits by which code lengths grow with the unrounded digits: those between the chosen cell and its
    neighbour on the latent's side.

    Args:
        logits: float32 (..., L), in nats.
        digits: int64 (...), the cells that were chosen.
        positions: float32 (...), the digits before they were rounded.

    Returns:
        float32 (...), bits a cell, without gradients.
    """
    side = torch.where(positions.detach() > digits, 1, -1)
    neighbour = (digits + side).clamp(0, logits.shape[-1] - 1)
    here, there = logits.detach().gather(-1, torch.stack([digits, neighbour], -1)).unbind(-1)
    return ((here - there) / math.log(2)).clamp(-_STEEPEST, _STEEPEST) * side

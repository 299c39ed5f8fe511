"""Steps of the error at the borders of blocks, which the eye follows as a grid where the picture is flat."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_BLOCK = 8
"""Pixels between borders: those of the latents' 16×16 blocks and of the decoder's patches."""
_BUSY = 4.0
"""Mean square step between neighbours, of values up to 255, beyond which a picture hides the error's."""


def blocking_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Mean square step of the error over block borders, each weighted by how flat the original is there.

    Squared error alone hardly notices a step of one or two levels between blocks, but in an even sky or
    shadow nothing hides it (a similar measure scores deblocking filters: Yim and Bovik 2011, "Quality
    assessment of deblocked images").

    Args:
        decoded, original: float32 (B, H, W, 3), values up to 255, of one shape, more than a block high and
            wide.

    Returns:
        float32 (B,).
    """
    error = decoded - original
    return torch.stack([_along(error, original, axis) for axis in (1, 2)]).mean(0)


def _along(error: Tensor, original: Tensor, axis: int) -> Tensor:
    """The same for the borders across one axis."""
    last = torch.arange(_BLOCK - 1, error.shape[axis] - 1, _BLOCK, device=error.device)
    step = error.index_select(axis, last + 1) - error.index_select(axis, last)
    # The pair across the border and the pairs on its two sides.
    around = [original.index_select(axis, last + n) for n in (-1, 0, 1, 2)]
    busy = torch.stack([(b - a).square() for a, b in pairwise(around)]).mean((0, -1))
    flat = (_BUSY / (_BUSY + busy)).square()
    return (flat * step.square().mean(-1)).mean((1, 2))

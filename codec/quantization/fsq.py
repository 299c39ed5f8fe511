"""Finite scalar quantization on a cell-centred grid (Mentzer et al. 2023, arXiv 2309.15505).

A latent channel with L levels is cut into L equal cells of [-1, 1]; a value becomes the index of its cell
and, when read back, the centre of that cell:

    index i = clamp(floor((z + 1) / 2 * L), 0, L - 1)        value v = (2 i + 1) / L - 1

This is the grid of the paper up to a factor, symmetric for odd and even L, without the half-step shift
that the paper needs for even L. There is no codebook: the d digits of a code are one mixed-radix number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .digits import pack, radix_of, unpack

PRESETS: dict[int, tuple[int, ...]] = {
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
}
"""Levels recommended by the paper (table 1) for a codebook of about the size that is the key."""


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Return `levels` as a tuple after checking them.

    Raises:
        ValueError: no levels, a level below 2, or a codebook beyond 2^31 codes.

    Warns:
        UserWarning: fewer than 5 levels in a channel or more than 8 channels, which the paper's
            section 4.1 found to waste capacity.
    """
    levels = tuple(int(level) for level in levels)
    if not levels:
        raise ValueError("FSQ needs at least one channel of levels, such as [8, 5, 5, 5]")
    if min(levels) < 2:
        raise ValueError(f"every channel needs at least 2 levels, got {list(levels)}")
    if math.prod(levels) > 2**31:
        raise ValueError(
            f"levels {list(levels)} give a codebook of {math.prod(levels)} codes, more than 2^31"
        )
    if min(levels) < 5:
        warnings.warn(f"levels {list(levels)}: the paper advises at least 5 levels a channel", stacklevel=3)
    if len(levels) > 8:
        warnings.warn(f"{len(levels)} channels in one code: the paper advises 3 to 6", stacklevel=3)
    return levels


def to_digits(z: Tensor, levels: Tensor) -> Tensor:
    """Cell index of every scalar: z in [-1, 1], float32 (..., d) → int64 (..., d) in 0 … L-1.

    Never run under a reduced precision: a bf16 value near a cell border changes cell.
    """
    cell = torch.floor((z.float() + 1) * (levels * 0.5)).long()
    return torch.minimum(cell.clamp_(min=0), levels - 1)


def from_digits(digits: Tensor, levels: Tensor) -> Tensor:
    """Centre of every cell: int64 (..., d) → float32 (..., d) in (-1, 1)."""
    return (2 * digits + 1).float() / levels - 1


class FSQ(nn.Module):
    """One finite scalar quantizer over the last axis of a tensor.

    Args:
        levels: number of levels of each channel, such as `[8, 5, 5, 5]`, or see `FSQ.preset`.

    Example:
        >>> import torch
        >>> fsq = FSQ([8, 5, 5, 5])
        >>> fsq.codebook_size
        1000
        >>> values, indices = fsq(torch.zeros(2, 7, 4))
        >>> values.shape, indices.shape
        (torch.Size([2, 7, 4]), torch.Size([2, 7]))
        >>> bool((fsq.codes_to_indices(fsq.indices_to_codes(indices)) == indices).all())
        True
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        checked = check_levels(levels)
        self.codebook_size = math.prod(checked)
        self.register_buffer("levels", torch.tensor(checked), persistent=False)
        self.register_buffer("radix", torch.tensor(radix_of(checked)), persistent=False)

    @classmethod
    def preset(cls, size: int) -> FSQ:
        """Quantizer with about `size` codes (2^8, 2^10, 2^12 or 2^14), levels from the paper's table 1.

        Raises:
            ValueError: there is no preset of that size.
        """
        if size not in PRESETS:
            raise ValueError(f"no preset of {size} codes; there are {sorted(PRESETS)}, or give levels")
        return cls(PRESETS[size])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Bound and quantize: any float dtype (..., d) → values float32 (..., d), indices int64 (...).

        The values carry the gradient of tanh(z) straight through the rounding (Bengio et al. 2013).
        """
        with torch.autocast(z.device.type, enabled=False):
            bounded = torch.tanh(z.float())
            digits = to_digits(bounded, self.levels)
            values = bounded + (from_digits(digits, self.levels) - bounded).detach()
        return values, self.pack(digits)

    def pack(self, digits: Tensor) -> Tensor:
        """Mixed-radix number of a code, first channel fastest: int64 (..., d) → int64 (...)."""
        return pack(digits, self.radix)

    def unpack(self, indices: Tensor) -> Tensor:
        """Inverse of `pack`: int64 (...) → int64 (..., d)."""
        return unpack(indices, self.radix, self.levels)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Values of codes: int64 (...) → float32 (..., d) in (-1, 1)."""
        return from_digits(self.unpack(indices), self.levels)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Inverse of `indices_to_codes`: float (..., d) → int64 (...)."""
        return self.pack(to_digits(codes, self.levels))

"""Bands of a frame's coefficients, their levels, and the rule that makes quantizer steps of levels.

A frame has four time slots of 5 ms. What belongs to bands is told for every slot, float32 (..., 4, 27): a 1×960 frame
has the same in all four, a 2×480 frame in two and two. `spread` and `gather` go between slots with bands and the first
800 of a frame's 960 coefficients, which are those up to 20 kHz; nothing above is coded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EDGES = (
    *(0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 76, 88, 104, 124, 148, 176, 212),
    *(256, 308, 372, 448, 540, 624, 712, 800),
)
"""Borders of the bands in coefficients of 25 Hz, multiples of four so that they are whole in every block."""
BANDS = len(EDGES) - 1
CODED = EDGES[-1]
"""Coefficients of a frame that are coded."""
SLOTS = 4
FLOOR = -90.0
"""Decibels of the lowest level that is told apart from silence."""
_ALPHA, _TILT, _JOINT = 0.75, 14.0, 0.95
_UP, _DOWN = 1.2, 2.5


class Bands(nn.Module):
    """Between coefficients and bands."""

    groups: Tensor
    means: Tensor
    masks: Tensor
    tilt: Tensor

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor(EDGES) // SLOTS
        place = torch.arange(CODED // SLOTS)
        member = ((place >= edges[:-1, None]) & (place < edges[1:, None])).float()
        distance = (torch.arange(BANDS)[:, None] - torch.arange(BANDS)).float()
        slope = torch.where(distance > 0, _UP * distance, -_DOWN * distance)
        self.register_buffer("groups", member, persistent=False)
        self.register_buffer("means", (member / member.sum(1, keepdim=True)).T.contiguous(), persistent=False)
        self.register_buffer("masks", (10.0**-slope).T.contiguous(), persistent=False)
        self.register_buffer("tilt", _TILT * torch.arange(BANDS) / BANDS, persistent=False)

    def spread(self, slots: Tensor, types: Tensor) -> Tensor:
        """Values of slots and bands, (..., 4, 27), at the coefficients, (..., 800); types broadcast to (...)."""
        crossed = slots[..., (0, 2, 1, 3), :]
        slots = torch.where((types == 1)[..., None, None], crossed, slots)
        return (slots @ self.groups.to(slots.dtype)).transpose(-1, -2).flatten(-2)

    def gather(self, values: Tensor, types: Tensor) -> Tensor:
        """Means over bands of what coefficients have, (..., 800) → (..., 4, 27); types broadcast to (...)."""
        slots = values.unflatten(-1, (-1, SLOTS)).transpose(-1, -2) @ self.means
        kind = types[..., None, None]
        halves = slots.unflatten(-2, (2, 2)).mean(-3).repeat_interleave(2, -2)
        whole = slots.mean(-2, keepdim=True)
        return torch.where(kind == 0, whole, torch.where(kind == 1, halves, slots))

    def levels(self, coefficients: Tensor, types: Tensor) -> Tensor:
        """Levels in dB, (..., 4, 27), of coefficients, (..., 800 or more), not below the floor."""
        power = self.gather(coefficients[..., :CODED].square(), types)
        return 10 * torch.log10(power + 1e-13).clamp(min=FLOOR / 10)

    def steps(self, levels: Tensor, knob: Tensor | float) -> Tensor:
        """Quantizer steps in dB by the rule, of the levels of all channels, (..., channels, 4, 27).

        knob, in dB, broadcasts to (..., channels, 4, 27): the step of the lowest band at level 0. The level is spread to
        the neighbouring bands as masking is; all channels follow the loudest one.
        """
        wide = 10 * torch.log10((10 ** (levels / 10)) @ self.masks + 1e-13)
        loud = wide.amax(-3, keepdim=True)
        return knob + _ALPHA * (_JOINT * loud + (1 - _JOINT) * wide) + self.tilt

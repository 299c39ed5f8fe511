"""What the prior of pictures may look at: shared by its training in floats and its use in integers.

A layer of the bitstream is a pass of residual FSQ over a slice of the channels. Its digits are predicted from
- `point`: what is known of the position itself: in the first pass the channels of earlier slices, later all
  channels;
- `around`: what is known of the four neighbours: in the first pass the first slice, later the slice itself,
  one grid coarser;
- `beside`: in the first pass, the slice's own digits at the black fields of a checkerboard, for the white
  fields, whose four neighbours they are (He et al. 2021); black fields are coded first;
- `before`: the slice in the frame before, at the layer's own precision;
- `inner`: in later passes, a table of logits by where the channel's coarser value lies, since a small network
  does not tell 48 channels apart;
- `echo`: what the digit was in the frame before, by how much has changed around (`Layout.echo`): a table too.

Networks see magnitudes, which tell how busy a place is; of the lowest frequencies they see signed values too.
Never a less important layer: so trailing layers can be dropped. Values count in cells of the finest grid, and
0 is the middle of the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .model import VisualConfig

INPUT_BITS = 4
"""Values are divided by 2^4 before they meet the weights."""
LARGEST = 96
"""Magnitudes beyond are as large as this, in cells of a channel's own finest grid."""
SIGNED = 8
"""Channels of the lowest frequencies, whose values are seen with their sign."""


@dataclass(frozen=True)
class Layout:
    """Passes, slices and channels of the layers."""

    levels: int
    passes: int
    slices: int
    """Layers of a pass."""
    width: int
    """Channels of a slice."""
    layers: int
    """In all; the last pass may cover the first slices only."""

    @classmethod
    def of(cls, config: VisualConfig) -> Layout:
        """Layout of a model's layers.

        Raises:
            ValueError: levels differ or are even, or layers do not end where a pass ends.
        """
        levels, per_layer = config.levels[0], config.stages_per_layer
        if set(config.levels) != {levels} or levels % 2 == 0:
            raise ValueError(f"levels {list(config.levels)}: pictures need the same odd number everywhere")
        if config.groups % per_layer or config.stages % per_layer:
            raise ValueError(f"layers of {per_layer} stages do not divide {config.groups} groups")
        return cls(
            levels=levels,
            passes=-(-config.stages // config.groups),
            slices=config.groups // per_layer,
            width=per_layer * len(config.levels),
            layers=config.stages // per_layer,
        )

    @property
    def channels(self) -> int:
        """Channels of the latents, D."""
        return self.slices * self.width

    def place(self, layer: int) -> tuple[int, int]:
        """Pass of a layer, and its first channel."""
        number, part = divmod(layer, self.slices)
        return number, part * self.width

    def unit(self, number: int) -> int:
        """Cells of the finest grid in a cell of a pass."""
        return int(self.levels ** (self.passes - 1 - number))

    def known(self, digits: Tensor, number: int, channels: int) -> Tensor:
        """Values (..., D) from all passes before pass `number`, and from this pass for the first `channels`.

        Args:
            digits: centred digits (..., passes, D), 0 in the middle cell.
            number: of the pass.
            channels: that this pass has coded.
        """
        value = torch.zeros_like(digits[..., 0, :])
        for p in range(number):
            value = value + digits[..., p, :] * self.unit(p)
        if channels:
            here = digits[..., number, :channels] * self.unit(number)
            value = torch.cat([value[..., :channels] + here, value[..., channels:]], -1)
        return value

    def growth(self, values: Tensor, digits: Tensor, before: Tensor) -> Tensor:
        """By how much the squared error of a position grows when it stays as it was, in each channel's finest
        cells.

        Values (..., D) in cells of the finest grid, their digits and those before (..., passes, D) → (...).
        """
        old, new = (
            self.in_cells(values - self.known(each, self.passes, 0), 0).square().sum(-1)
            for each in (before, digits)
        )
        return old - new

    def inputs(self, layer: int, kind: str) -> int:
        """Number of values that a layer's prediction takes of a kind of context."""
        number, first = self.place(layer)
        signed = 0 if first else min(SIGNED, self.width)
        sizes = {
            "point": self.channels if number else first,
            "around": 4 * (self.width + signed) if number else 4 * self.width if first else 0,
            "beside": 0 if number else 4 * (self.width + signed),
            "before": self.width,
        }
        return sizes[kind]

    def largest(self) -> int:
        """No context is larger than this."""
        return max(LARGEST, 2 * int(self.levels**self.passes // 2))

    def magnitudes(self, value: Tensor, first: int) -> Tensor:
        """Magnitudes of values (..., n) of the channels from `first` on, in cells of each channel's finest
        grid."""
        return self.in_cells(value.abs(), first).clamp(max=LARGEST)

    def in_cells(self, value: Tensor, first: int) -> Tensor:
        """Values (..., n) of the channels from `first` on, in cells of each channel's finest grid."""
        refined = max(0, (self.layers % self.slices or self.slices) * self.width - first)
        return torch.cat([value[..., :refined], value[..., refined:] / self.levels], -1)

    def contexts(self, layer: int, digits: Tensor, before: Tensor | None) -> dict[str, Tensor]:
        """Contexts `point`, `around` and `before` (B, h, w, n) of a layer; without those that are empty.

        Args:
            layer: number of the layer.
            digits: centred digits (B, h, w, passes, D); those of this and later layers are not looked at.
            before: the same of the frame before, None for the first of a group.
        """
        number, first = self.place(layer)
        own = slice(first, first + self.width)
        found: dict[str, Tensor] = {}
        value = self.known(digits, number, first)
        if number:
            found["point"] = self.magnitudes(value, 0)
            coarse = self.known(digits[..., own], number, 0)
            found["around"] = neighbours(self.magnitudes(coarse, first))
            if not first:
                low = coarse[..., : min(SIGNED, self.width)]
                found["around"] = torch.cat([found["around"], neighbours(low) - low.repeat(1, 1, 1, 4)], -1)
        elif first:
            found["point"] = self.magnitudes(value[..., :first], 0)
            found["around"] = neighbours(self.magnitudes(value[..., : self.width], 0))
        if before is not None:
            found["before"] = self.magnitudes(self.known(before[..., own], number, self.width), first)
        return found

    def beside(self, layer: int, digits: Tensor) -> Tensor | None:
        """Context `beside` (B, h, w, n): the layer's digits on black fields, for white ones; None in later
        passes."""
        number, first = self.place(layer)
        if number:
            return None
        own = digits[..., number, first : first + self.width] * self.unit(number)
        own = own * black(own.shape[1], own.shape[2], own.device)
        found = self.magnitudes(own, first)
        return neighbours(found if first else torch.cat([found, own[..., : min(SIGNED, self.width)]], -1))

    def inner(self, layer: int, digits: Tensor) -> Tensor | None:
        """Rows int64 (B, h, w, channels) of the table of `inner`: the coarser value, clipped; None in the
        first pass."""
        number, first = self.place(layer)
        if not number:
            return None
        coarse = self.known(digits[..., first : first + self.width], number, 0) / self.unit(number - 1)
        most = self.levels // 2
        return coarse.clamp(-most, most).long() + most

    def echoes(self, layer: int) -> int:
        """Rows of the table of `echo`: the digit before, in later passes by where its coarser digits lay."""
        return 3 * self.levels if self.place(layer)[0] else self.levels

    def change(self, layer: int, digits: Tensor, before: Tensor, white: bool) -> Tensor:
        """How much has changed around each position since the frame before: int64 (B, h, w), 0 … CHANGES - 1.

        Counts differing digits of the layers before, here and at the neighbours, and of the layer itself at
        black fields when `white` fields are asked for. Class 0 knows nothing yet, class 1 has seen no change.
        """
        number, first = self.place(layer)
        coarser = (digits[..., :number, :] != before[..., :number, :]).flatten(-2)
        earlier = digits[..., number, :first] != before[..., number, :first]
        count = torch.cat([coarser, earlier], -1).float().sum(-1)
        near = neighbours(count[..., None]).sum(-1) + 2 * count
        if white:
            span = slice(first, first + self.width)
            own = (digits[..., number, span] != before[..., number, span]).float().sum(-1, keepdim=True)
            near = near + neighbours(own * black(own.shape[1], own.shape[2], own.device)).sum(-1)
        elif not layer:
            return torch.zeros_like(near, dtype=torch.int64)
        return 1 + torch.stack([near > bound for bound in _BOUNDS]).sum(0)

    def echo(self, layer: int, digits: Tensor, before: Tensor) -> Tensor:
        """Rows int64 (B, h, w, channels) of the table of `echo`, from digits whose coarser passes are
        known."""
        number, first = self.place(layer)
        own = slice(first, first + self.width)
        row = before[..., number, own].long() + self.levels // 2
        if number:
            step = self.known(digits[..., own] - before[..., own], number, 0)
            row = row + self.levels * (1 + step.sign().long())
        return row


_BOUNDS = (0, 3, 12, 40)
CHANGES = 2 + len(_BOUNDS)
"""Classes of change between frames."""


def black(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fields that are coded first: bool (h, w, 1)."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return ((rows[:, None] + columns) % 2 == 0)[..., None]


def neighbours(x: Tensor) -> Tensor:
    """The four neighbours of every position: (B, h, w, C) → (B, h, w, 4 C), zeros outside."""
    h, w = x.shape[1:3]
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1, 1, 1))
    return torch.cat([padded[:, i : i + h, j : j + w] for i, j in ((0, 1), (1, 0), (1, 2), (2, 1))], -1)

"""Residual FSQ: groups of channels at the coarse grid, then the same groups one grid finer.

A stage is a pair (pass, group). Pass p quantizes what the passes before left over, blown up to the full
range again, so the scales are L^-p and nothing decays:

    r_0 = tanh(z)      v_p = centre of the cell of r_p      r_{p+1} = (r_p - v_p) * L      value = Σ v_p L^-p

tanh is applied once: inside every pass it would bend the remainder, and the passes would not add up.
Two passes of L levels give exactly the L·L cell centres of one quantizer of L·L levels.

Stages are ordered by pass and then by group. Any prefix of them decodes; channels without a stage are 0,
the centre of the range. Dropping random suffixes in training makes early groups carry what matters most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .digits import pack, radix_of, unpack
from .fsq import check_levels, from_digits, to_digits


@dataclass(frozen=True)
class StageStatistics:
    """How one stage uses its codebook of `size` codes."""

    size: int
    utilisation: float
    """Share of the codes that occur, 0 … 1."""
    perplexity: float
    """2 to the entropy: the number of equally likely codes that would carry as much."""
    entropy: float
    """Bits a token, at most log2(size)."""


class ResidualFSQ(nn.Module):
    """Residual FSQ over the last axis of a tensor of any leading shape.

    Args:
        levels: levels of the channels of one group, such as `[5, 5, 5, 5]`.
        groups: number of groups; the latent has `groups * len(levels)` channels.
        stages: number of stages, `groups` when None; those beyond `groups` refine the groups again, each
            time on a grid L times finer, from the first on.

    Tokens are int64 (..., stages); token k is the mixed-radix number of its group's digits.

    Example:
        >>> import torch
        >>> rfsq = ResidualFSQ([5, 5, 5, 5], groups=12, stages=24)
        >>> rfsq.stages, rfsq.channels
        (24, 48)
        >>> values, tokens = rfsq(torch.randn(1, 50, 48))
        >>> bool(torch.allclose(rfsq.decode(tokens), values, atol=1e-6))
        True
        >>> rfsq.decode(tokens[..., :3]).shape  # any prefix of stages decodes
        torch.Size([1, 50, 48])
    """

    levels: Tensor
    scale: Tensor
    radix: Tensor

    def __init__(self, levels: Sequence[int], groups: int, stages: int | None = None) -> None:
        super().__init__()
        group_levels = check_levels(levels)
        self.stages = groups if stages is None else stages
        if groups < 1 or self.stages < groups:
            raise ValueError(f"{self.stages} stages for {groups} groups: every group needs one at least")
        passes = -(-self.stages // groups)
        if max(group_levels) ** passes > 2**20:
            raise ValueError(f"{passes} passes of {max(group_levels)} levels are finer than float32 resolves")
        self.group_levels, self.groups, self.passes = group_levels, groups, passes
        self.codebook_size = math.prod(group_levels)
        tiled = torch.tensor(group_levels * groups)
        self.register_buffer("levels", tiled, persistent=False)
        self.register_buffer("scale", 1 / tiled.double() ** torch.arange(passes)[:, None], persistent=False)
        self.register_buffer("radix", torch.tensor(radix_of(group_levels)), persistent=False)

    @property
    def channels(self) -> int:
        """Number of latent channels D."""
        return self.groups * len(self.group_levels)

    @property
    def bits(self) -> float:
        """Fixed-length bits of one token, log2 of the codebook size."""
        return math.log2(self.codebook_size)

    def forward(self, z: Tensor, stages: Tensor | int | None = None) -> tuple[Tensor, Tensor]:
        """Quantize with straight-through gradients.

        Args:
            z: unbounded latents, any float dtype, (..., D).
            stages: how many stages to keep, one number or int64 of the leading shape's first axis
                (an item of a batch each); all when None.

        Returns:
            values float32 (..., D) and tokens int64 (..., stages); tokens are never dropped.
        """
        with torch.autocast(z.device.type, enabled=False):
            bounded = torch.tanh(z.float())
            digits = self._digits(bounded.detach())
            keep = self._kept(stages, z.dim())
            values = self._sum(digits, keep)
            # A channel whose first pass is dropped is constant: it must not pass a gradient either.
            passed = bounded if keep is None else bounded * keep[0]
            values = passed + (values - passed).detach()
        return values, self._pack(digits)

    def encode(self, z: Tensor) -> Tensor:
        """Tokens of latents: any float dtype (..., D) → int64 (..., stages)."""
        with torch.autocast(z.device.type, enabled=False):
            return self._pack(self._digits(torch.tanh(z.float())))

    def decode(self, tokens: Tensor, stages: Tensor | None = None) -> Tensor:
        """Latents of a prefix of stages: int64 (..., n) with n ≤ stages → float32 (..., D).

        `stages`, int64 of the leading shape's first axis, gives each item a shorter prefix of its own.

        Raises:
            ValueError: more stages than the quantizer has, or a token outside its codebook.
        """
        n = tokens.shape[-1]
        if n > self.stages:
            raise ValueError(f"{n} stages of tokens, but the quantizer has {self.stages}")
        if n and (int(tokens.min()) < 0 or int(tokens.max()) >= self.codebook_size):
            raise ValueError(f"tokens must be in 0 … {self.codebook_size - 1}")
        return self._sum(self.unpack(tokens), self._kept(n if stages is None else stages, tokens.dim()))

    def unpack(self, tokens: Tensor) -> Tensor:
        """Digits of tokens: int64 (..., n) → int64 (passes, ..., D), 0 where there is no stage."""
        padded = nn.functional.pad(tokens, (0, self.passes * self.groups - tokens.shape[-1]))
        digits = self.stage_digits(padded)
        return torch.unflatten(digits, -2, (self.passes, self.groups)).flatten(-2).movedim(-2, 0)

    def stage_digits(self, tokens: Tensor) -> Tensor:
        """Digits by stage: int64 (..., n) tokens → int64 (..., n, d), d channels of a group."""
        return unpack(tokens, self.radix, self.levels[: len(self.group_levels)])

    def refinement(self, stages: Tensor) -> Tensor:
        """How far numbers of stages (...) lie from one pass over the groups, 0, to all stages, 1; 0 below."""
        return (stages - self.groups).clamp(min=0) / max(1, self.stages - self.groups)

    def positions(self, z: Tensor) -> Tensor:
        """Unrounded digits of latents, with gradients: any float dtype (..., D) → float32 (..., stages, d).

        Digit i is the nearest whole number, within half a cell at the ends of the range too.
        """
        with torch.autocast(z.device.type, enabled=False):
            remainder, positions = torch.tanh(z.float()), []
            for _ in range(self.passes):
                positions.append((remainder + 1) * (self.levels * 0.5) - 0.5)
                digits = to_digits(remainder.detach(), self.levels)
                remainder = (remainder - from_digits(digits, self.levels)) * self.levels
        grouped = torch.unflatten(torch.stack(positions, -2), -1, (self.groups, -1))
        return grouped.flatten(-3, -2)[..., : self.stages, :]

    def statistics(self, tokens: Tensor) -> list[StageStatistics]:
        """Use of the codebook by each stage of tokens int64 (..., stages)."""
        report = []
        for column in tokens.reshape(-1, tokens.shape[-1]).T:
            share = torch.bincount(column, minlength=self.codebook_size).double() / len(column)
            used = share[share > 0]
            entropy = float(-(used * used.log2()).sum())
            report.append(
                StageStatistics(self.codebook_size, len(used) / self.codebook_size, 2**entropy, entropy)
            )
        return report

    def _digits(self, bounded: Tensor) -> Tensor:
        remainder, digits = bounded, []
        for _ in range(self.passes):
            digits.append(to_digits(remainder, self.levels))
            remainder = (remainder - from_digits(digits[-1], self.levels)) * self.levels
        return torch.stack(digits)

    def _sum(self, digits: Tensor, keep: Tensor | None) -> Tensor:
        scale = self.scale.reshape(self.passes, *[1] * (digits.dim() - 2), -1)
        values = from_digits(digits, self.levels) * scale
        return (values if keep is None else values * keep).sum(0).float()

    def _kept(self, stages: Tensor | int | None, dim: int) -> Tensor | None:
        """Which channels of which pass are kept: bool (passes, items or 1, 1 …, D)."""
        slots = self.passes * self.groups
        if stages is None:
            if self.stages == slots:
                return None
            stages = self.stages
        count = torch.as_tensor(stages, device=self.levels.device).reshape(-1, 1)
        kept = torch.arange(slots, device=self.levels.device) < count
        kept = torch.unflatten(kept, 1, (self.passes, self.groups))
        kept = kept.repeat_interleave(len(self.group_levels), -1)
        return kept.movedim(1, 0).reshape(self.passes, len(count), *[1] * (dim - 2), -1)

    def _pack(self, digits: Tensor) -> Tensor:
        grouped = torch.unflatten(digits.movedim(0, -2), -1, (self.groups, -1))
        return pack(grouped, self.radix).flatten(-2)[..., : self.stages]

"""The prior of the music model in floats, of a form that integers can take over (`fsqcodec.train.integer_training`).

Three small networks and a table:
- latents: groups of eight, each predicted by the two frames before and the groups before;
- scales: latents of this and the three frames before -> log scale of every band and slot, a fifth of an octave a unit;
- theta: a coefficient's scale and the magnitudes around it (`fsqcodec.music.context`) -> the row of the table;
- table: logits of magnitudes 0 ... 14 and of the escape, 64 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from fsqcodec.entropy.integer import ACTIVATION_BITS, weight_table
from fsqcodec.entropy.range_coder import TOTAL
from fsqcodec.music.bands import BANDS, SLOTS
from fsqcodec.music.context import FEATURES
from fsqcodec.music.kernel import INPUT_BITS
from fsqcodec.music.model import MusicConfig, merge
from fsqcodec.music.prior import GROUPS, HINGES, LATENT_INPUT_BITS, PAST, ROWS, SCALE_INPUT_BITS, SYMBOLS
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..integer_training import QuantizedNetwork

_MATRICES = (
    "latents_first",
    "latents_out",
    "scales_first",
    "scales_mix",
    "scales_out",
    "theta_first",
    "theta_out",
)
UNITS, CENTRE = 5.0, 20.0
"""Rows of the table in an octave, and the row of a Laplace scale of one step."""
_HIDDEN, _WIDE = 64, 192
_THETA = FEATURES + 6
_THETA_HIDDEN = 24


class PriorNetwork(QuantizedNetwork):
    """Code lengths of latents and coefficients."""

    mask: Tensor

    def __init__(self, config: MusicConfig) -> None:
        super().__init__({name: [name] for name in _MATRICES})
        self.config = config
        self.group = config.latents // GROUPS
        levels = 2 * config.most + 1
        inputs = 3 * config.latents + HINGES
        mask = torch.ones(inputs, GROUPS, _HIDDEN)
        for group in range(GROUPS):
            mask[2 * config.latents + group * self.group : 3 * config.latents, group] = 0
        self.register_buffer("mask", mask.flatten(1), persistent=False)
        self._add("latents_first", torch.randn(inputs, GROUPS * _HIDDEN) * 0.3 / inputs**0.5)
        self._add("latents_bias", torch.full((GROUPS * _HIDDEN,), 0.3))
        self._add("latents_out", torch.randn(GROUPS, _HIDDEN, self.group * levels) * 0.05)
        self._add("latents_out_bias", torch.zeros(GROUPS, self.group * levels))
        inputs = PAST * config.latents + 6 + HINGES
        outputs = 2 * BANDS * (1 + SLOTS)
        self._add("scales_first", torch.randn(inputs, _WIDE) * 0.5 / inputs**0.5)
        self._add("scales_bias", torch.full((_WIDE,), 0.3))
        self._add("scales_mix", torch.randn(_WIDE, _WIDE) / _WIDE**0.5)
        self._add("scales_mix_bias", torch.full((_WIDE,), 0.3))
        self._add("scales_out", torch.randn(_WIDE, outputs) * 0.1)
        self._add("scales_out_bias", torch.full((outputs,), 1.0))
        self._add("theta_first", torch.randn(_THETA, _THETA_HIDDEN) * 0.5 / _THETA**0.5)
        self._add("theta_bias", 0.2 + 0.2 * torch.rand(_THETA_HIDDEN))
        self._add("theta_out", torch.randn(_THETA_HIDDEN, 1) * 0.05)
        self._add("theta_out_bias", torch.zeros(1))
        self._add("table", _laplace().log())

    @property
    def quantized(self) -> bool:
        """Whether it computes in the steps of its integers."""
        return bool(self.scales)

    def _add(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value))

    def latent_logits(self, latents: Tensor, knob: Tensor) -> Tensor:
        """Logits, float32 (B, frames, 32, 9), of integer latents, float32 (B, frames, 32)."""
        seen = torch.cat(
            (_past(latents, 3)[..., : 2 * self.config.latents], latents, _hinges(knob, latents)), -1
        )
        units = self.units(
            seen / 4 @ (self.weight("latents_first") * self.mask) + self.get_parameter("latents_bias")
        )
        units = units.unflatten(-1, (GROUPS, _HIDDEN))
        found = torch.einsum("btgh,ghk->btgk", units, self.weight("latents_out")) + self.get_parameter(
            "latents_out_bias"
        )
        return found.unflatten(-1, (self.group, -1)).flatten(2, 3)

    def log_scales(self, latents: Tensor, types: Tensor, knob: Tensor) -> Tensor:
        """Log scales in rows of the table, float32 (B, frames, 2, 4, 27)."""
        kinds = F.one_hot(types, 3).float()
        seen = torch.cat((_past(latents, PAST) / 4, _past(kinds, 2), _hinges(knob, latents)), -1)
        units = self.units(seen @ self.weight("scales_first") + self.get_parameter("scales_bias"))
        units = self.units(units @ self.weight("scales_mix") + self.get_parameter("scales_mix_bias"))
        found = (units @ self.weight("scales_out") + self.get_parameter("scales_out_bias")).float()
        base, detail = found.unflatten(-1, (1 + SLOTS, 2, BANDS)).movedim(-3, -2).split((1, SLOTS), -2)
        found = 12 * base + merge(6 * detail, types)
        if self.scales:
            found = found + ((8 * found).floor() / 8 - found).detach()
        return found

    def theta(self, told: Tensor) -> Tensor:
        """Rows of the table, float32 (n,), of what is told of coefficients, float32 (n, 12): see `told`."""
        units = self.units(told @ self.weight("theta_first") + self.get_parameter("theta_bias"))
        more = (units @ self.weight("theta_out") + self.get_parameter("theta_out_bias"))[:, 0]
        return (64 * told[:, FEATURES] + 16 * more).clamp(0, ROWS - 1)

    def bits(self, rows: Tensor, symbols: Tensor) -> Tensor:
        """Code lengths in bits, float32 (n,), of magnitudes, int64 (n,), between two rows of the table each."""
        lengths = -F.log_softmax(self.get_parameter("table"), -1) / math.log(2)
        lower = rows.detach().floor().clamp(max=ROWS - 2)
        index = lower.long() * SYMBOLS + symbols.clamp(max=SYMBOLS - 1)
        found: Tensor = _Lookup.apply(lengths.flatten(), rows - lower, index)
        extra = (symbols > 0).float()
        escaped = symbols >= SYMBOLS - 1
        return (
            found
            + extra
            + escaped * (2 * torch.log2((symbols - SYMBOLS + 2).clamp(min=1).float()).floor() + 1)
        )

    def points(self, scales: Mapping[str, int]) -> dict[str, int]:
        """See `QuantizedNetwork`. A bias counts in the units of the sum that it joins."""
        found = {name: scales[name] for name in _MATRICES}
        found["latents_bias"] = scales["latents_first"] + LATENT_INPUT_BITS
        found["scales_bias"] = scales["scales_first"] + SCALE_INPUT_BITS
        found["theta_bias"] = scales["theta_first"] + INPUT_BITS
        for name, matrix in (
            ("latents_out", "latents_out"),
            ("scales_mix", "scales_mix"),
            ("scales_out", "scales_out"),
            ("theta_out", "theta_out"),
        ):
            found[f"{name}_bias"] = scales[matrix] + ACTIVATION_BITS
        return found

    @torch.no_grad()
    def export(self) -> dict[str, NDArray[np.integer]]:
        """The tensors of `fsqcodec.music.prior.MusicPrior`; `quantize` comes first."""
        found: dict[str, NDArray[np.integer]] = {}
        for name, point in self.points(self.scales).items():
            if name in self.scales:
                mask = self.mask if name == "latents_first" else 1
                found[name] = (self.rounded(name) * mask).numpy().astype(np.int8)
            else:
                found[name] = torch.round(self.get_parameter(name) * 2.0**point).numpy().astype(np.int32)
        chance = torch.softmax(self.get_parameter("table").double(), -1).numpy()
        table = np.floor(chance * (TOTAL - SYMBOLS)).astype(np.int32) + 1
        table[np.arange(ROWS), table.argmax(1)] += TOTAL - table.sum(1)
        found["table"] = table
        found["scales"] = np.array([self.scales[name] for name in _MATRICES], np.int32)
        found["weights"] = weight_table().numpy()
        return found


class _Lookup(torch.autograd.Function):
    """Linear interpolation between neighbouring rows of a table; the gradient is counted, not scattered."""

    @staticmethod
    def forward(ctx: Any, lengths: Tensor, share: Tensor, index: Tensor) -> Tensor:
        here, there = lengths[index], lengths[index + SYMBOLS]
        ctx.save_for_backward(share, index, there - here)
        ctx.size = lengths.numel()
        return here + share * (there - here)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        share, index, slope = ctx.saved_tensors
        lower = torch.bincount(index, gradient * (1 - share), ctx.size)
        upper = torch.bincount(index + SYMBOLS, gradient * share, ctx.size)
        return (lower + upper).float(), gradient * slope, None


def _past(x: Tensor, frames: int) -> Tensor:
    """This and earlier frames side by side, (B, T, frames·n): the earliest first, zeros before the first."""
    padded = F.pad(x, (0, 0, frames - 1, 0))
    return torch.cat([padded[:, k : k + x.shape[1]] for k in range(frames)], -1)


def _hinges(knob: Tensor, like: Tensor) -> Tensor:
    """The knob as four ramps between -32 and 16 dB, (B, T, 4)."""
    ramps = ((knob[:, None] - torch.tensor((-32.0, -20.0, -8.0, 4.0))) / 12).clamp(0, 1)
    return ramps[:, None].expand(*like.shape[:2], HINGES)


def _laplace() -> Tensor:
    """Probabilities of magnitudes under Laplace scales, rounded up from 0.57: float32 (64, 16)."""
    scale = 2 ** ((torch.arange(ROWS, dtype=torch.float64)[:, None] - CENTRE) / UNITS)
    tail = torch.exp(-(torch.arange(SYMBOLS, dtype=torch.float64) + 0.57) / scale)
    mass = torch.cat((1 - tail[:, :1], tail[:, :-2] - tail[:, 1:-1], tail[:, -2:-1]), 1)
    return ((mass + 1e-6) / (mass + 1e-6).sum(1, keepdim=True)).float()

"""The networks of the music model: side information of a frame, and what the decoder makes of it.

Levels of bands of mid and side -> encoder -> 32 integers of -4 ... 4 a frame (two ternary digits of residual FSQ each)
-> decoder -> levels of bands, corrections of the quantizer steps and of the noise. Steps follow the levels by the rule of
`bands.Bands.steps`, so the codec works before the corrections have learned anything. All of it is causal.
Nothing here touches a probability: see `fsqcodec.music.context`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .bands import BANDS, SLOTS

_CENTRE, _RANGE, _DETAIL = -50.0, 25.0, 6.0
_KNOB = 16.0


@dataclass(frozen=True)
class MusicConfig:
    """Shape of the networks."""

    width: int = 256
    blocks: int = 3
    expansion: int = 2
    latents: int = 32
    most: int = 4
    """Latents are integers up to this magnitude."""


class TemporalBlock(nn.Module):
    """A residual block that sees its frame and one before: two matrix products, GELU between."""

    def __init__(self, width: int, expansion: int, back: int) -> None:
        super().__init__()
        self.back = back
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(2 * width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(..., frames, width) -> the same."""
        y = self.norm(x)
        earlier = F.pad(y, (0, 0, self.back, 0))[..., : y.shape[-2], :]
        added: Tensor = self.narrow(F.gelu(self.widen(torch.cat((y, earlier), -1))))
        return x + self.gain * added


def _stack(config: MusicConfig, inputs: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(config.width, outputs)
    nn.init.normal_(last.weight, std=0.5 / config.width**0.5)
    nn.init.zeros_(last.bias)
    middle = [TemporalBlock(config.width, config.expansion, 2**k) for k in range(config.blocks)]
    return nn.Sequential(nn.Linear(inputs, config.width), *middle, nn.LayerNorm(config.width), last)


def merge(slots: Tensor, types: Tensor) -> Tensor:
    """What all slots of a block share: (..., frames, channels, 4, 27) averaged as the types (..., frames) ask."""
    kind = types[..., None, None, None]
    halves = slots.unflatten(-2, (2, 2)).mean(-2).repeat_interleave(2, -2)
    whole = slots.mean(-2, keepdim=True)
    return torch.where(kind == 0, whole, torch.where(kind == 1, halves, slots))


@dataclass
class Side:
    """What the decoder makes of the side information, each (..., frames, 2, 4, 27)."""

    levels: Tensor
    """dB."""
    steps: Tensor
    """Correction in dB."""
    noise: Tensor
    """Correction in dB."""


class MusicModel(nn.Module):
    """Side information of stereo sound."""

    def __init__(self, config: MusicConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MusicConfig()
        told = 2 * BANDS
        self.encoder = _stack(config, told * (1 + SLOTS) + 4, config.latents)
        self.decoder = _stack(config, config.latents + 4, told * (1 + SLOTS))
        last = nn.Linear(config.width // 2, 2 * told)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.touch = nn.Sequential(nn.Linear(config.width + 4, config.width // 2), nn.GELU(), last)

    def encode(self, levels: Tensor, types: Tensor, knob: Tensor) -> Tensor:
        """Latents before rounding, float32 (B, frames, 32), within the range.

        Args:
            levels: dB, float32 (B, frames, 2, 4, 27).
            types: block types, int64 (B, frames).
            knob: dB, float32 (B,).
        """
        mean = levels.mean(-2, keepdim=True)
        told = torch.cat((((mean - _CENTRE) / _RANGE).flatten(2), ((levels - mean) / _DETAIL).flatten(2)), -1)
        room = self.config.most + 0.49
        return room * torch.tanh(self.encoder(torch.cat((told, _about(types, knob)), -1)).float() / room)

    def decode(self, latents: Tensor, types: Tensor, knob: Tensor) -> Side:
        """What the integers, float32 (B, frames, 32), say."""
        about = _about(types, knob)
        features = self.decoder[:-1](torch.cat((latents / 2, about), -1))
        found = self.decoder[-1](features).float().unflatten(-1, (1 + SLOTS, 2, BANDS)).movedim(-3, -2)
        base, detail = found.split((1, SLOTS), -2)
        levels = _CENTRE + _RANGE * base + merge(_DETAIL * detail, types)
        # What corrections learn comes through noise; it must not reach what levels are made of.
        touch = self.touch(torch.cat((features.detach(), about), -1)).float()
        steps, noise = touch.unflatten(-1, (2, 2, 1, BANDS)).unbind(2)
        return Side(levels, _limited(steps).expand_as(levels), _limited(noise).expand_as(levels))


def _about(types: Tensor, knob: Tensor) -> Tensor:
    kinds = F.one_hot(types, 3).float()
    return torch.cat((kinds, (knob / _KNOB)[:, None, None].expand(*types.shape, 1)), -1)


def _limited(decibels: Tensor) -> Tensor:
    """Corrections of at most 12 dB."""
    return 12 * torch.tanh(decibels / 12)


def rounded(latents: Tensor) -> Tensor:
    """The nearest integers, with the gradient of the identity."""
    return latents + (latents.round() - latents).detach()

"""One pass of the music codec in floats: what is trained, and what ideal code lengths are counted on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from fsqcodec.music.bands import BANDS, EDGES, SLOTS, Bands
from fsqcodec.music.context import FEATURES, features
from fsqcodec.music.model import MusicModel, Side, rounded
from fsqcodec.music.reconstruct import quantize, steps_of
from torch import Tensor
from torch.nn import functional as F

from ..rate import rate
from .prior_network import CENTRE, UNITS, PriorNetwork

LEAST_SCALE = 0.5
"""Bands of a lower log scale are not coded."""


@dataclass
class Coded:
    """What a batch became."""

    side: Side
    steps: Tensor
    """(B, frames, 2, 4, 27)."""
    scales: Tensor
    """Log scales in rows of the prior's table, (B, frames, 2, 4, 27)."""
    integers: Tensor
    """int32 (B, frames, 2, 800)."""
    coefficient_bits: Tensor
    """A frame, (B, frames)."""
    side_bits: Tensor
    """A frame, (B, frames)."""
    side_pressure: Tensor
    """Of the same use, with gradients for the encoder."""
    scale_error: Tensor
    """Mean square by which log scales are off, (B,)."""


def code(
    model: MusicModel,
    prior: PriorNetwork,
    bands: Bands,
    coefficients: Tensor,
    levels: Tensor,
    types: Tensor,
    knob: Tensor,
    share: float = 1.0,
    fast: bool = False,
) -> Coded:
    """Code coefficients, float32 (B, frames, 2, 960).

    Args:
        model, prior, bands: the networks.
        coefficients: of mid and side.
        levels: theirs, dB (B, frames, 2, 4, 27).
        types: block types, int64 (B, frames).
        knob: dB, (B,).
        share: of the coefficients whose bits are counted, drawn at random.
        fast: bfloat16 where it does no harm.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        free = model.encode(levels, types, knob)
        latents = rounded(free)
        side = model.decode(latents, types, knob)
    with torch.autocast("cpu", torch.bfloat16, enabled=fast and not prior.quantized):
        logits = prior.latent_logits(latents.detach(), knob).float()
        scales = prior.log_scales(latents, types, knob)
    most = model.config.most
    bits, pressure = rate(logits, latents.detach().long() + most, free + most)
    steps = steps_of(side, bands, knob)
    kinds = types[..., None]
    spread_steps = bands.spread(steps.detach(), kinds)
    with torch.no_grad():
        coded = bands.spread((scales > LEAST_SCALE).float(), kinds) > 0.5
        integers = quantize(coefficients, spread_steps, coded)
        sizes = (coefficients[..., : spread_steps.shape[-1]] / spread_steps).abs()
        wanted = CENTRE + UNITS * torch.log2(bands.gather(sizes, kinds) + 1e-2)
    error = (scales - wanted).square().mean((1, 2, 3, 4))
    counted = coefficient_bits(prior, bands, integers, scales, types, coded, share)
    return Coded(side, steps, scales, integers, counted, bits.sum(-1), pressure.sum(-1), error)


def coefficient_bits(
    prior: PriorNetwork,
    bands: Bands,
    integers: Tensor,
    scales: Tensor,
    types: Tensor,
    coded: Tensor,
    share: float,
) -> Tensor:
    """Bits a frame, (B, frames), of the coefficients that are coded, bool (B, frames, 2, 800), told by a share of them."""
    batch, frames = types.shape
    if share < 1:
        coded = coded & (torch.rand(coded.shape) < share)
    index = coded.flatten().nonzero()[:, 0]
    seen = torch.from_numpy(features(integers.numpy(), types.to(torch.uint8).numpy()))
    seen = seen.flatten(0, -2)[index].float() / 64
    size = integers.shape[-1]
    place, row = index % size, index // size  # row: (item, frame, channel)
    kind = types.flatten()[row // 2]
    band = band_of_place()[place]
    slot = torch.where(kind == 2, place % 4, torch.where(kind == 1, 2 * (place % 2), 0))
    cell = (row * SLOTS + slot) * BANDS + band
    own = scales.flatten().index_select(0, cell)
    fixed = scales.detach()
    time = fixed.transpose(2, 3).flatten(1, 2)  # B, frames · 4, 2, 27
    before = torch.cat((time[:, :1], time[:, :-1]), 1).unflatten(1, (frames, SLOTS)).transpose(2, 3)
    across = torch.stack((torch.zeros_like(fixed[:, :, 0]), fixed[:, :, 0] - fixed[:, :, 1]), 2)
    told = torch.stack(
        (
            own / 64,
            (fixed - before).flatten()[cell].clamp(-32, 32) / 32,
            across.flatten()[cell].clamp(-32, 32) / 32,
            (row % 2).float(),
            band.float() / 32,
            (kind > 0).float(),
        ),
        -1,
    )
    assert seen.shape[-1] == FEATURES
    symbols = integers.flatten()[index].abs().long()
    bits = prior.bits(prior.theta(torch.cat((seen, told), -1)), symbols)
    return torch.zeros(batch * frames).index_add(0, row // 2, bits / share).unflatten(0, (batch, frames))


def band_of_place() -> Tensor:
    """Band of each coefficient, int64 (800,)."""
    edges = torch.tensor(EDGES)
    return torch.repeat_interleave(torch.arange(BANDS), edges.diff())


def level_error(side: Side, levels: Tensor, steps: Tensor, audible: Tensor) -> Tensor:
    """Squared error of the levels a frame, (B, frames), in dB²: less where coefficients tell them anyway.

    audible: weights of bands, (B, 27), for sound whose upper bands are missing.
    """
    gap = levels - 20 * torch.log10(steps.detach())
    weight = (0.15 + 0.85 * torch.sigmoid(-gap / 3)) * audible[:, None, None, None]
    off = F.huber_loss(side.levels, levels, reduction="none", delta=10.0) * 2
    return (weight * off).mean(-2).sum((-1, -2))


def balance(knob: Tensor) -> Tensor:
    """Weights of crops by knob, (B,), so that a percent of bits counts nearly the same at all rates."""
    return 10 ** (0.043 * (knob + 6))


def beta(knob: Tensor, strength: float) -> Tensor:
    """Bits that a squared decibel is worth, by the knob, (B,)."""
    return strength * torch.exp(-(knob + 9) / 40 * math.log(10))

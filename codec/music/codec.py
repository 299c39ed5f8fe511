"""Stereo sound at 48 kHz to packets and back.

samples -> mid, side -> lapped transform in chosen blocks -> band levels -> encoder network -> latents
                                  |                                              |
                                  +--> / steps -> rate-distortion rounding <- decoder network, prior
                                                          |
                                        side message, magnitudes, raw bits

A packet's networks and contexts begin afresh, so its numbers are told by it alone. Its samples are, but for the overlap
with its neighbours: at most 20 ms at either end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bands import CODED, Bands
from .block_choice import choose_blocks
from .model import MusicModel, Side
from .prior import MusicPrior, knob_of
from .reconstruct import dequantize, steps_of
from .transform import LappedTransform

PACKET_FRAMES = 50
_TURN = 0.5**0.5


@dataclass(frozen=True)
class MusicPacket:
    """What a packet holds of its frames."""

    frames: int
    side: bytes
    """Knob, block types, latents."""
    magnitudes: bytes
    raw: bytes
    """Signs, and what is above the prior's table."""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.side) + len(self.magnitudes) + len(self.raw)


def worth_of(knob: int) -> float:
    """Bits that a squared error of one step is worth in rounding, by the index of a knob.

    At low rates what theory says of a fine uniform quantizer; at high rates ears miss what it would round to zero.
    """
    return float(7 * 2 ** (max(0, 30 - knob) / 5.5))


class MusicCodec:
    """Codes stereo sound by a model and its prior; deterministic but for the sound's float arithmetic."""

    def __init__(self, model: MusicModel, prior: MusicPrior) -> None:
        self.model, self.prior = model, prior
        self.transform, self.bands = LappedTransform("vorbis"), Bands()

    @torch.inference_mode()
    def encode(
        self, samples: NDArray[np.float32], knob: int, worth: float | None = None
    ) -> list[MusicPacket]:
        """Packets of samples, float32 (n, 2), at the index of a knob; a lower one takes more bits.

        worth: bits of a squared error of one step; `worth_of` the knob when None.
        """
        worth = worth_of(knob) if worth is None else worth
        both = _turned(torch.from_numpy(np.ascontiguousarray(samples.T)))
        types = choose_blocks(both, knob_of(knob), self.transform, self.bands)
        coefficients = self.transform(both, types).transpose(0, 1)
        packets = []
        for start in range(0, len(types), PACKET_FRAMES):
            part = slice(start, start + PACKET_FRAMES)
            packets.append(self._encode(coefficients[part], types[part], knob, worth))
        return packets

    def _encode(self, coefficients: Tensor, types: Tensor, knob: int, worth: float) -> MusicPacket:
        decibels, kinds = torch.tensor([knob_of(knob)]), types.to(torch.uint8).numpy()
        levels = self.bands.levels(coefficients, types[:, None])
        latents = self.model.encode(levels[None], types[None], decibels).round()[0]
        _, steps, scales = self._side(latents, types, knob)
        scaled = coefficients[..., :CODED] / self.bands.spread(steps, types[:, None])
        integers, _ = self.prior.theta.choose(scaled.numpy(), kinds, scales, worth)
        side = self.prior.encode_side(latents.int().numpy(), kinds, knob)
        return MusicPacket(len(types), side, *self.prior.encode_integers(integers, kinds, scales))

    def _side(self, latents: Tensor, types: Tensor, knob: int) -> tuple[Side, Tensor, NDArray[np.int32]]:
        """What latents (frames, 32) say: for the decoder, steps (frames, 2, 4, 27), and the prior's scales."""
        decibels = torch.tensor([knob_of(knob)])
        side = self.model.decode(latents[None], types[None], decibels)
        steps = steps_of(side, self.bands, decibels)[0]
        return side, steps, self.prior.log_scales(latents, types, knob)

    @torch.inference_mode()
    def decode(self, packets: Sequence[MusicPacket], samples: int | None = None) -> NDArray[np.float32]:
        """Sound, float32 (n, 2), of successive packets; all of it when no number of samples is given.

        Raises:
            BitstreamError: no encoder wrote these packets.
        """
        parts = [self._decode(packet, number) for number, packet in enumerate(packets)]
        if not parts:
            return np.zeros((0, 2), np.float32)
        coefficients, types = (torch.cat(part) for part in zip(*parts, strict=True))
        both = self.transform.inverse(coefficients.transpose(0, 1), types, samples)
        return _turned(both).T.contiguous().numpy()

    def _decode(self, packet: MusicPacket, number: int) -> tuple[Tensor, Tensor]:
        """Coefficients (frames, 2, 960) and block types of a packet."""
        found, kinds, knob = self.prior.decode_side(packet.side, packet.frames)
        latents, types = torch.from_numpy(found).float(), torch.from_numpy(kinds).long()
        side, steps, scales = self._side(latents, types, knob)
        integers = torch.from_numpy(self.prior.decode_integers(packet.magnitudes, packet.raw, kinds, scales))
        noise = torch.rand((1, *integers.shape), generator=torch.Generator().manual_seed(number)) * 2 - 1
        filled = dequantize(integers[None], steps[None], side, types[None], self.bands, noise)
        return filled[0], types


def _turned(channels: Tensor) -> Tensor:
    """Left and right to mid and side, or back, (2, n)."""
    return torch.stack((channels[0] + channels[1], channels[0] - channels[1])) * _TURN
